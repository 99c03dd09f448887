from llm_proxy.backends.notifications import INotificationService

__all__ = ["INotificationService"]
