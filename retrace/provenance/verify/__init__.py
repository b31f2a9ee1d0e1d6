"""Does it still come out? Reruns a commit from nothing, compares it with its record, and traces figures back."""
