"""Where results come from: run logs, md5 sums, verification."""
