"""Make a fundus photograph usable: decode, find and crop the retinal disc, normalise, judge quality."""
