from llm_proxy.contracts.config_sections import ParameterResolution, ParameterSource

__all__ = ["ParameterResolution", "ParameterSource"]
