"""Private interfaces of libraries, one module per library: what an upgrade of one may break is in its module."""
