#include "python/chat_frames.h"

#include <pybind11/pybind11.h>

#include <array>
#include <cstring>

#include "json/writer.h"
#include "python/bind.h"
#include "python/json_convert.h"

namespace py = pybind11;

namespace llm_proxy {
namespace {

std::string json_text(std::string_view text) {
  std::string out;
  JsonWriter(out).string(text);
  return out;
}

PyObject* interned(const char* text) {
  return PyUnicode_InternFromString(text);
}

// The keys that are looked for; live as long as the process.
struct Keys {
  PyObject* const choices = interned("choices");
  PyObject* const delta = interned("delta");
  PyObject* const error = interned("error");
  PyObject* const finish_reason = interned("finish_reason");
  PyObject* const tool_calls = interned("tool_calls");
  PyObject* const usage = interned("usage");
  // Every chunk has these, and first.
  const std::array<PyObject*, 4> head{interned("id"), interned("object"), interned("created"),
                                      interned("model")};
};

const Keys& keys() {
  static const Keys instance;
  return instance;
}

// Borrowed; null when missing.
PyObject* item(PyObject* dict, PyObject* key) {
  return PyDict_GetItemWithError(dict, key);
}

bool is_blank(PyObject* value) {
  return value == nullptr || value == Py_None ||
         (PyUnicode_CheckExact(value) && PyUnicode_GET_LENGTH(value) == 0);
}

bool is_true(PyObject* value) {
  return value != nullptr && PyObject_IsTrue(value) == 1;
}

}  // namespace

ChatFrames::ChatFrames(std::string_view id, std::int64_t created, std::string_view model)
    : id_(json_text(id)), created_(std::to_string(created)), model_(json_text(model)) {}

PyOwned ChatFrames::frame(PyObject* chunk) {
  const bool written = PyDict_CheckExact(chunk) && write(chunk) && note(chunk);
  PyErr_Clear();  // what we cannot write is written, or refused, by whoever looks closer
  if (!written) return PyOwned::share(Py_None);
  return PyOwned::steal(
      PyBytes_FromStringAndSize(out_.data(), static_cast<Py_ssize_t>(out_.size())));
}

bool ChatFrames::note(PyObject* chunk) {
  PyObject* const choices = item(chunk, keys().choices);
  if (choices == nullptr || !PyList_CheckExact(choices) || PyList_GET_SIZE(choices) == 0 ||
      item(chunk, keys().error) != nullptr) {
    return false;
  }
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(choices); ++i) {
    PyObject* const choice = PyList_GET_ITEM(choices, i);
    if (!PyDict_CheckExact(choice)) return false;
    PyObject* const delta = item(choice, keys().delta);
    if (delta == nullptr || !PyDict_CheckExact(delta)) return false;
  }
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(choices); ++i) {
    PyObject* const choice = PyList_GET_ITEM(choices, i);
    finished = finished || is_true(item(choice, keys().finish_reason));
    called_tools = called_tools || is_true(item(item(choice, keys().delta), keys().tool_calls));
  }
  counted = counted || is_true(item(chunk, keys().usage));
  return true;
}

bool ChatFrames::write(PyObject* chunk) {
  out_ = "data: {";
  const std::array<std::string_view, 4> names{R"("id":)", R"(,"object":)", R"(,"created":)",
                                              R"(,"model":)"};
  const std::array<std::string_view, 4> missing{id_, R"("chat.completion.chunk")", created_,
                                                model_};
  for (std::size_t i = 0; i < names.size(); ++i) {
    out_ += names[i];
    PyObject* const value = item(chunk, keys().head[i]);
    if (is_blank(value)) {
      out_ += missing[i];
    } else if (!python_to_json(value, out_)) {
      return false;
    }
  }
  Py_ssize_t at = 0;
  PyObject *key, *value;
  while (PyDict_Next(chunk, &at, &key, &value)) {
    if (is_blank(value)) continue;
    if (!PyUnicode_CheckExact(key)) return false;
    bool in_head = false;
    for (PyObject* const known : keys().head) {
      in_head = in_head || key == known || PyUnicode_Compare(key, known) == 0;
    }
    if (in_head) continue;
    out_ += ',';
    if (!python_to_json(key, out_)) return false;
    out_ += ':';
    if (!python_to_json(value, out_)) return false;
  }
  out_ += "}\n\n";
  return true;
}

void bind_chat_frames(py::module_& module) {
  py::class_<ChatFrames>(module, "ChatFrames",
                         "Writes the chunks a backend yields as server-sent frames.")
      .def(py::init<std::string_view, std::int64_t, std::string_view>(), py::arg("id"),
           py::arg("created"), py::arg("model"))
      .def(
          "frame",
          [](ChatFrames& self, py::handle chunk) {
            return py::reinterpret_steal<py::object>(self.frame(chunk.ptr()).release());
          },
          py::arg("chunk"), "None: not a plain chunk, look closer.")
      .def_readwrite("finished", &ChatFrames::finished)
      .def_readwrite("called_tools", &ChatFrames::called_tools)
      .def_readwrite("counted", &ChatFrames::counted);
}

}  // namespace llm_proxy
