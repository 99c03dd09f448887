#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "base/bounded_buffer.h"
#include "http/sse_reader.h"
#include "python/bind.h"

namespace py = pybind11;

namespace llm_proxy {
namespace {

constexpr std::size_t kMostOfAnEvent = 32u << 20;

py::str text_of(std::string_view bytes) {
  PyObject* made =
      PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "replace");
  if (made == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::str>(made);
}

// The engine's reader of server-sent events, for backends that read a stream themselves.
//
// Owned by whoever reads the stream, one per stream; used with the GIL held. A reader serves either
// events() and frames(), which tell what events say, or whole(), which passes bytes on.
class PySseReader {
 public:
  py::list events(const py::bytes& chunk) {
    py::list out;
    read(chunk, [&](const SseEvent& event) {
      out.append(py::make_tuple(text_of(event.event), text_of(event.data)));
    });
    return out;
  }

  py::list rest_events() {
    py::list out;
    finish([&](const SseEvent& event) {
      out.append(py::make_tuple(text_of(event.event), text_of(event.data)));
    });
    return out;
  }

  py::list frames(const py::bytes& chunk) {
    py::list out;
    read(chunk, [&](const SseEvent& event) {
      out.append(py::make_tuple(frame_of(event), text_of(event.data)));
    });
    return out;
  }

  py::list rest_frames() {
    py::list out;
    finish([&](const SseEvent& event) {
      out.append(py::make_tuple(frame_of(event), text_of(event.data)));
    });
    return out;
  }

  // As much of what was kept and of `chunk` as ends with an event or a comment; the rest is kept.
  py::bytes whole(const py::bytes& chunk) {
    const std::string_view bytes = chunk;
    std::string_view input = bytes;
    std::size_t complete = 0;
    read(input, [&](const SseEvent&) { complete = bytes.size() - input.size(); });
    if (reader_.between_events()) complete = bytes.size();
    if (complete == bytes.size() && kept_.empty() && bytes.find('\r') == std::string_view::npos) {
      return chunk;
    }
    std::string out;
    if (complete > 0) {
      out = kept_.take();
      out += bytes.substr(0, complete);
    }
    if (!kept_.append(bytes.substr(complete))) throw py::value_error(kTooLarge);
    return with_lf(out);
  }

  // What came after the last event, as an event of its own; empty when nothing did.
  py::bytes rest_whole() {
    std::string out = kept_.take();
    if (std::all_of(out.begin(), out.end(), [](char c) { return c == '\n' || c == '\r'; })) {
      return {};
    }
    out += "\n\n";
    return with_lf(out);
  }

  bool unfinished() const { return !reader_.between_events(); }

 private:
  static constexpr const char* kTooLarge = "a server-sent event does not end";

  template <typename Use>
  void read(std::string_view& input, const Use& use) {
    SseEvent event;
    for (;;) {
      const Result<bool> got = reader_.next(input, event);
      if (!got) throw py::value_error(kTooLarge);
      if (!*got) return;
      use(event);
    }
  }

  template <typename Use>
  void read(const py::bytes& chunk, const Use& use) {
    std::string_view input = chunk;
    read(input, use);
  }

  template <typename Use>
  void finish(const Use& use) {
    SseEvent event;
    const Result<bool> got = reader_.finish(event);
    if (!got) throw py::value_error(kTooLarge);
    if (*got) use(event);
  }

  // The event as a frame of its own: what it names and what it says.
  static py::bytes frame_of(const SseEvent& event) {
    std::string out;
    out.reserve(event.event.size() + event.data.size() + 24);
    if (!event.event.empty()) out.append("event: ").append(event.event).append("\n");
    std::string_view rest = event.data;
    for (;;) {
      const std::size_t end = std::min(rest.find('\n'), rest.size());
      out.append("data: ").append(rest.substr(0, end)).append("\n");
      if (end == rest.size()) break;
      rest.remove_prefix(end + 1);
    }
    out += '\n';
    return out;
  }

  static py::bytes with_lf(std::string& text) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const bool pair = text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n';
      if (!pair) text[kept++] = text[i] == '\r' ? '\n' : text[i];
    }
    return {text.data(), kept};
  }

  SseReader reader_{kMostOfAnEvent};
  BoundedBuffer kept_{kMostOfAnEvent};  // of whole(): what no event has ended yet
};

}  // namespace

void bind_sse(py::module_& module) {
  py::class_<PySseReader>(module, "SseReader",
                          "Cuts a stream of server-sent events, however its bytes are cut.")
      .def(py::init<>())
      .def("events", &PySseReader::events, py::arg("chunk"),
           "The (name, data) of each event that `chunk` completes. ValueError: one does not end.")
      .def("rest_events", &PySseReader::rest_events, "The event that lacks only its blank line.")
      .def("frames", &PySseReader::frames, py::arg("chunk"),
           "The same as (frame, data): the frame is the event alone, with its blank line.")
      .def("rest_frames", &PySseReader::rest_frames)
      .def("whole", &PySseReader::whole, py::arg("chunk"),
           "The bytes up to the end of the last event, comments included, with LF as line end.")
      .def("rest_whole", &PySseReader::rest_whole)
      .def_property_readonly("unfinished", &PySseReader::unfinished);
}

}  // namespace llm_proxy
