"""Sources of images: published data sets, folders, tables and drawn phantoms."""
