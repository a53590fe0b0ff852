"""Where a store lives: folder or S3, who may read and write there, and who works on it now."""
