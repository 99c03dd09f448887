#pragma once

#include <pybind11/pybind11.h>

namespace llm_proxy {

// The Python surface, in parts; module.cc puts them together. All of it is cold: made, published,
// asked for numbers.
void bind_lane(pybind11::module_& module);
void bind_rings(pybind11::module_& module);
void bind_native_plugins(pybind11::module_& module);
void bind_backends(pybind11::module_& module);
void bind_admin(pybind11::module_& module);
void bind_text(pybind11::module_& module);
void bind_chat_frames(pybind11::module_& module);
void bind_http_reply(pybind11::module_& module);
void bind_sse(pybind11::module_& module);
void bind_proxies(pybind11::module_& module);
void bind_server(pybind11::module_& module);
void bind_codecs(pybind11::module_& module);

}  // namespace llm_proxy
