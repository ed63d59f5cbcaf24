"""WHERE IMAGES COME FROM: published data sets, folders, tables and drawn phantoms."""
