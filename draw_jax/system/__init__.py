"""The program's surroundings: flags, files, devices, compiled programs."""
