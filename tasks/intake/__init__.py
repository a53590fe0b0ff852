"""Parts of the import: the gain, files that can be left alone, one file on its worker; see `import_session`."""
