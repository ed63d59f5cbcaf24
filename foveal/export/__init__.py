"""TAKE A GRADER ELSEWHERE: files that grade without torch, and weights for other libraries."""
