"""ONE PAGE, from run folders only."""
