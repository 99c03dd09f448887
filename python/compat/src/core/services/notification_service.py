from llm_proxy.backends.notifications import NotificationService

__all__ = ["NotificationService"]
