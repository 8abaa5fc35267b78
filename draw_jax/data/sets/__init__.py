"""Data sets of other forms: generated when read, from files of pictures, or from no files."""
