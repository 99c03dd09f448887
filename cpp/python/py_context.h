#pragma once

#include <memory>
#include <string_view>
#include <utility>

#include "python/py_ref.h"
#include "rings/ring_host.h"
#include "rings/ring_records.h"

namespace llm_proxy {

// The Python side of the contract, made once per lane from llm_proxy.rings.runtime.engine. C++ runs
// the plugins and handles what nearly always happens; everything rarer is a call of one of these.
struct RingHandlers {
  PyRef context_type;  // PluginContext
  PyRef state;         // the PluginState shared by all contexts
  PyRef fill;          // (name, facts) -> value of a lazy field of the context
  PyRef adopt;         // (ctx, notes, placeholders): what native plugins have left to a context
  PyRef begin;   // (ctx, "chunk" | "reply" | "background", facts): what the context learns before
                 // that ring
  PyRef settle;  // (ctx, entry, result) -> None | "error" | "block"; not called for a plain
                 // passthrough
  PyRef failed;  // (ctx, entry, exception)
  PyRef timed_out;    // (ctx, entry)
  PyRef quarantined;  // (ctx, entry), fail-closed entries only
  PyRef stopped;  // (ctx, entry) -> bool; stop_chain is set. True: the chain ends. False: only this
                  // ring does
  PyRef verdict;  // (ctx, entry) -> (kind, status, type, message, headers, body) of a chain that
                  // ended so
  std::shared_ptr<RingTimes> times = std::make_shared<RingTimes>();
  PyRef reply_change;  // (ctx) -> None | (status, headers, body)
  PyRef unsendable;    // (ctx, exception): what keeps the body they left from being JSON
};

// Where PluginContext keeps the slots that C++ reads and writes for every plugin. Known after
// learn_context_type(). Lane only, as all below.
struct ContextLayout {
  Py_ssize_t body = 0, response = 0, error = 0, stop_chain = 0, state = 0, source = 0,
             placeholders = 0;
};
extern ContextLayout context_layout;

inline PyObject*& slot(PyObject* context, Py_ssize_t offset) {
  return *reinterpret_cast<PyObject**>(reinterpret_cast<char*>(context) + offset);
}

inline void set_slot(PyObject* context, Py_ssize_t offset, PyObject* value) {
  PyObject* old = std::exchange(slot(context, offset), value);
  Py_INCREF(value);
  Py_XDECREF(old);
}

// ---- small words of the C API

// Invalid UTF-8 is replaced. Null with a Python error set if memory is short.
PyOwned text_object(std::string_view utf8);
// A value that could not be made is left out, its error forgotten.
void put_item(PyObject* dict, const char* key, PyOwned value);
// A handler's call: what it raises is our bug or a hostile object's, logged and treated as None.
PyOwned call_handler(const PyRef& handler, PyObject* a, PyObject* b = nullptr,
                     PyObject* c = nullptr);

// ---- what a context's lazy fields are filled from

// Shared by a session and by its context, which a plugin may keep for longer. Lane only after
// open().
struct SessionData {
  std::shared_ptr<const RingHandlers> handlers;
  RingRequest request;
  double arrived_at = 0;  // Unix seconds
};

// A PluginContext over `data`. Null with a Python error set on failure.
PyOwned make_context(std::shared_ptr<SessionData> data);
// What a context learns of a reply before POST_FLIGHT, and of an outcome before BACKGROUND.
PyOwned reply_facts(const RingReply& reply);
PyOwned outcome_facts(const RingOutcome& outcome);

// Registers the C type of this file. Once. False with a Python error set on failure.
bool init_context_types();
// Where the hot fields of PluginContext live. Once, with the class. False with a Python error set
// on failure.
bool learn_context_type(PyObject* context_type);

}  // namespace llm_proxy
