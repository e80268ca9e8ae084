"""The sources of keys beyond the folder: tokens, services, authorities. One small file each."""
