"""Backend plugins that change a little of a base class each."""
