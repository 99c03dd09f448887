"""The import names that backend plugins use; everything here lives in `llm_proxy`."""
