"""What the program's commands do: flags in, exit codes out."""
