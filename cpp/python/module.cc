#include <pybind11/pybind11.h>

#include "python/bind.h"

// `llm_proxy._core`: what the Python half sees of the C++ half. Also linked into llm-proxyd.
PYBIND11_MODULE(_core, module) {
  module.doc() = "The C++ engine of llm_proxy.";
  llm_proxy::bind_lane(module);
  llm_proxy::bind_native_plugins(module);
  llm_proxy::bind_rings(module);
  llm_proxy::bind_backends(module);
  llm_proxy::bind_admin(module);
  llm_proxy::bind_text(module);
  llm_proxy::bind_chat_frames(module);
  llm_proxy::bind_http_reply(module);
  llm_proxy::bind_sse(module);
  llm_proxy::bind_proxies(module);
  llm_proxy::bind_server(module);
  llm_proxy::bind_codecs(module);
}
