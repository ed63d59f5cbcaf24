"""Export a grader: files that grade without torch, and weights for other libraries."""
