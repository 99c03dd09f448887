from llm_proxy.contracts.listings import ModelInfo, ModelsListingResponse

__all__ = ["ModelInfo", "ModelsListingResponse"]
