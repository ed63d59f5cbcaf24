"""Random views (augmentation): recipes, parameter tables and the two back ends that apply them."""
