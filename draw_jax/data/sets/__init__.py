"""Data sets of a form of their own: made as they are read, of files of pictures, or of no files."""
