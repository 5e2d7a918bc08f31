"""The chain of trainings, tests, pseudo-labels and votes: recipe, jobs, plan, runner."""
