"""`retrace score`: anybody's predictions against a truth file, without a project and without PyTorch."""
