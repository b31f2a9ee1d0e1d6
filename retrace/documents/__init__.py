"""The files that stages write, as the code that reads them back needs them."""
