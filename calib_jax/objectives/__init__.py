"""What is minimised: one file an idea; a term is a weight and a function of the step's views."""
