"""`python -m cli`: the command line of llm_proxy under the name users type."""
