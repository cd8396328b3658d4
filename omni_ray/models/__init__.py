"""Plain torch modules; nothing here knows of data, ranks or Ray."""
