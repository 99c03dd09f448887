#include "python/py_context.h"

#include <structmember.h>

#include <new>

#include "base/ascii.h"
#include "python/json_convert.h"

namespace llm_proxy {

ContextLayout context_layout;

PyOwned text_object(std::string_view utf8) {
  return PyOwned::steal(
      PyUnicode_DecodeUTF8(utf8.data(), static_cast<Py_ssize_t>(utf8.size()), "replace"));
}

void put_item(PyObject* dict, const char* key, PyOwned value) {
  if (!value || PyDict_SetItemString(dict, key, value.get()) != 0) PyErr_Clear();
}

PyOwned call_handler(const PyRef& handler, PyObject* a, PyObject* b, PyObject* c) {
  PyObject* const args[] = {a, b, c};
  const std::size_t count = c != nullptr ? 3 : b != nullptr ? 2 : 1;
  PyOwned result = PyOwned::steal(PyObject_Vectorcall(handler.get(), args, count, nullptr));
  if (!result) PyErr_WriteUnraisable(handler.get());
  return result;
}

namespace {

PyOwned headers_dict(const RingHeaders& headers) {
  PyOwned dict = PyOwned::steal(PyDict_New());
  for (const auto& [name, value] : headers) {
    const PyOwned key = text_object(name);
    const PyOwned held = text_object(value);
    if (dict && key && held && PyDict_SetItem(dict.get(), key.get(), held.get()) != 0)
      PyErr_Clear();
  }
  return dict;
}

RingHeaders header_pairs(std::string_view lines) {
  RingHeaders out;
  while (!lines.empty()) {
    const auto end = lines.find("\r\n");
    const auto line = lines.substr(0, end);
    lines = end == std::string_view::npos ? std::string_view() : lines.substr(end + 2);
    const auto colon = line.find(": ");
    if (colon != std::string_view::npos)
      out.emplace_back(lower_case(line.substr(0, colon)), line.substr(colon + 2));
  }
  return out;
}

PyOwned request_facts(const RingRequest& request, double arrived_at) {
  PyOwned facts = PyOwned::steal(PyDict_New());
  if (!facts) return facts;
  put_item(facts.get(), "request_id", text_object(request.request_id));
  put_item(facts.get(), "session_id", text_object(request.session_id));
  put_item(facts.get(), "client_host", text_object(request.client_host));
  put_item(facts.get(), "method", text_object(request.method));
  put_item(facts.get(), "path", text_object(request.path));
  put_item(facts.get(), "frontend", text_object(request.frontend));
  put_item(facts.get(), "operation", text_object(request.operation));
  put_item(facts.get(), "key_hash", text_object(request.key_hash));
  put_item(facts.get(), "headers", headers_dict(request.headers));
  put_item(facts.get(), "arrived_at", PyOwned::steal(PyFloat_FromDouble(arrived_at)));
  return facts;
}

struct SourceObject {
  PyObject_HEAD std::shared_ptr<SessionData> data;
  PyObject* facts;  // request_facts(), once asked for
};
PyTypeObject* source_type = nullptr;

PyObject* source_fill(PyObject* self, PyObject* name) {
  auto& source = *reinterpret_cast<SourceObject*>(self);
  const SessionData& data = *source.data;
  if (PyUnicode_CompareWithASCIIString(name, "body") == 0) {
    if (data.request.body.empty()) return PyDict_New();
    return json_to_python(data.request.body).release();
  }
  if (source.facts == nullptr) {
    source.facts = request_facts(data.request, data.arrived_at).release();
  }
  if (source.facts == nullptr) return nullptr;
  PyObject* const args[] = {name, source.facts};
  return PyObject_Vectorcall(data.handlers->fill.get(), args, 2, nullptr);
}

void source_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  reinterpret_cast<SourceObject*>(self)->data.~shared_ptr();
  Py_XDECREF(reinterpret_cast<SourceObject*>(self)->facts);
  type->tp_free(self);
  Py_DECREF(type);
}

// The offset of a __slots__ member; -1 with an error set if there is none of that name.
Py_ssize_t slot_offset(PyObject* type, const char* name) {
  const PyOwned member = PyOwned::steal(PyObject_GetAttrString(type, name));
  if (!member) return -1;
  if (!Py_IS_TYPE(member.get(), &PyMemberDescr_Type)) {
    PyErr_Format(PyExc_TypeError, "%s is no slot", name);
    return -1;
  }
  return reinterpret_cast<PyMemberDescrObject*>(member.get())->d_member->offset;
}

}  // namespace

PyOwned reply_facts(const RingReply& reply) {
  PyOwned facts = PyOwned::steal(PyDict_New());
  if (!facts) return facts;
  put_item(facts.get(), "status", PyOwned::steal(PyLong_FromLong(reply.status)));
  put_item(facts.get(), "headers", headers_dict(header_pairs(reply.fields)));
  put_item(facts.get(), "body",
           PyOwned::steal(PyBytes_FromStringAndSize(reply.body.data(),
                                                    static_cast<Py_ssize_t>(reply.body.size()))));
  put_item(facts.get(), "streamed", PyOwned::steal(PyBool_FromLong(reply.streamed ? 1 : 0)));
  put_item(facts.get(), "duration", PyOwned::steal(PyFloat_FromDouble(reply.duration)));
  put_item(facts.get(), "first_token", PyOwned::steal(PyFloat_FromDouble(reply.first_token)));
  return facts;
}

PyOwned outcome_facts(const RingOutcome& outcome) {
  PyOwned facts = outcome.reply ? reply_facts(*outcome.reply) : PyOwned::steal(PyDict_New());
  if (!facts) return facts;
  put_item(facts.get(), "status", PyOwned::steal(PyLong_FromLong(outcome.status)));
  put_item(facts.get(), "backend", text_object(outcome.backend));
  put_item(facts.get(), "model", text_object(outcome.model));
  put_item(facts.get(), "input_tokens", PyOwned::steal(PyLong_FromLongLong(outcome.input_tokens)));
  put_item(facts.get(), "output_tokens",
           PyOwned::steal(PyLong_FromLongLong(outcome.output_tokens)));
  put_item(facts.get(), "duration", PyOwned::steal(PyFloat_FromDouble(outcome.duration)));
  return facts;
}

PyOwned make_context(std::shared_ptr<SessionData> data) {
  auto* type = reinterpret_cast<PyTypeObject*>(data->handlers->context_type.get());
  PyObject* state = data->handlers->state.get();
  PyOwned context = PyOwned::steal(type->tp_alloc(type, 0));
  PyOwned source = PyOwned::steal(source_type->tp_alloc(source_type, 0));
  if (!context || !source) return {};
  new (&reinterpret_cast<SourceObject*>(source.get())->data)
      std::shared_ptr<SessionData>(std::move(data));
  slot(context.get(), context_layout.source) = source.release();
  set_slot(context.get(), context_layout.response, Py_None);
  set_slot(context.get(), context_layout.error, Py_None);
  set_slot(context.get(), context_layout.stop_chain, Py_False);
  set_slot(context.get(), context_layout.state, state);
  return context;
}

bool init_context_types() {
  if (source_type != nullptr) return true;
  static PyMethodDef source_methods[] = {
      {"fill", source_fill, METH_O, "The value of a lazy field."},
      {nullptr, nullptr, 0, nullptr},
  };
  static PyType_Slot source_slots[] = {
      {Py_tp_dealloc, reinterpret_cast<void*>(source_dealloc)},
      {Py_tp_methods, source_methods},
      {0, nullptr},
  };
  static PyType_Spec source_spec{"llm_proxy._core.ContextSource", sizeof(SourceObject), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                 source_slots};
  source_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&source_spec));
  return source_type != nullptr;
}

bool learn_context_type(PyObject* context_type) {
  struct Row {
    const char* name;
    Py_ssize_t& offset;
  };
  for (const Row& row :
       {Row{"body", context_layout.body}, Row{"response", context_layout.response},
        Row{"error", context_layout.error}, Row{"stop_chain", context_layout.stop_chain},
        Row{"state", context_layout.state}, Row{"_source", context_layout.source},
        Row{"placeholders", context_layout.placeholders}}) {
    row.offset = slot_offset(context_type, row.name);
    if (row.offset < 0) return false;
  }
  return true;
}

}  // namespace llm_proxy
