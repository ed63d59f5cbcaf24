"""A server for graders, with a web page and an API: grades and reviews. It stores no photographs by default."""
