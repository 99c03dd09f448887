#include <pybind11/pybind11.h>

#include "http/http_reply.h"
#include "python/bind.h"

namespace py = pybind11;

namespace llm_proxy {

namespace {

// Any object with a buffer, for as long as this lives.
class Bytes {
 public:
  explicit Bytes(const py::handle& object) {
    if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_SIMPLE) != 0) throw py::error_already_set();
  }
  ~Bytes() { PyBuffer_Release(&view_); }
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;

  std::string_view get() const {
    return {static_cast<const char*>(view_.buf), static_cast<std::size_t>(view_.len)};
  }

 private:
  Py_buffer view_;
};

py::bytes bytes_of(std::string_view text) {
  return {text.data(), text.size()};
}

const ReplyHead& head_of(const HttpReply& reply) {
  if (reply.head() == nullptr) throw py::value_error("the head is not complete yet");
  return *reply.head();
}

py::list fields_of(const HttpReply& reply) {
  py::list fields;
  for (const Field& field : head_of(reply).fields)
    fields.append(py::make_tuple(bytes_of(field.name), bytes_of(field.value)));
  return fields;
}

}  // namespace

void bind_http_reply(py::module_& module) {
  py::class_<HttpReply>(module, "HttpReply", "One HTTP/1.1 reply as its bytes arrive.")
      .def(py::init<bool>(), py::arg("to_head_request"))
      .def(
          "feed",
          [](HttpReply& self, const py::handle& data) {
            const Bytes bytes(data);
            const Result<std::string_view> body = self.feed(bytes.get());
            if (!body) throw py::value_error(body.error().message);
            return bytes_of(*body);
          },
          py::arg("data"), "What of the body is in `data`. ValueError: this is no HTTP.")
      .def(
          "on_end",
          [](HttpReply& self) {
            const Result<void> ended = self.on_end();
            if (!ended) throw py::value_error(ended.error().message);
          },
          "The connection has ended. ValueError unless that is how this reply ends.")
      .def_property_readonly("has_head",
                             [](const HttpReply& self) { return self.head() != nullptr; })
      .def_property_readonly("done", &HttpReply::done)
      .def_property_readonly("reusable", &HttpReply::reusable,
                             "The connection may carry another exchange.")
      .def_property_readonly("status", [](const HttpReply& self) { return head_of(self).status; })
      .def_property_readonly(
          "version",
          [](const HttpReply& self) {
            return py::bytes(head_of(self).version_minor == 0 ? "HTTP/1.0" : "HTTP/1.1");
          })
      .def_property_readonly("reason",
                             [](const HttpReply& self) { return bytes_of(head_of(self).reason); })
      .def_property_readonly("headers", &fields_of, "As they came: (name, value), both bytes.");
}

}  // namespace llm_proxy
