"""THE READING ROOM: a grader behind an address, and the page where people confirm or correct it."""
