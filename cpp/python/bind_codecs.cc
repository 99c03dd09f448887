#include <pybind11/pybind11.h>

#include <ctime>
#include <memory>
#include <string>
#include <string_view>

#include "formats/format.h"
#include "python/bind.h"

namespace py = pybind11;

namespace llm_proxy {
namespace {

// The codecs for `TranslationService`: text of one format in, text of another out. What goes wrong
// is a ValueError with the codec's own words.

template <typename T>
T&& value_of(Result<T>&& result) {
  if (!result) throw py::value_error(result.error().message);
  return *std::move(result);
}

void check(const Result<void>& result) {
  if (!result) throw py::value_error(result.error().message);
}

const Format& codec_named(const std::string& name) {
  const auto format = wire_format_named(name);
  if (!format) throw py::value_error("no such wire format: " + name);
  return format_of(*format);
}

py::bytes translate_request(const py::bytes& body, const std::string& source,
                            const std::string& target, const std::string& model, bool stream) {
  const Request request =
      value_of(codec_named(source).decode_request(std::string_view(body), model, stream));
  Translation translation{.upstream_model = request.model.decode()};
  std::string out;
  check(codec_named(target).encode_request(request, translation, out));
  return py::bytes(out);
}

// The request behind a reply that is translated by itself: asks for usage, renames nothing.
struct Unasked {
  Request request;
  Translation translation;

  explicit Unasked(WireFormat format) {
    request.format = format;
    request.include_usage = true;
  }
  EncodeContext context() const {
    return EncodeContext{.request = &request,
                         .translation = &translation,
                         .now = static_cast<std::int64_t>(std::time(nullptr)),
                         .reply_seed = "translated"};
  }
};

// Passes events on and remembers an error among them.
class ErrorWatch final : public EventSink {
 public:
  explicit ErrorWatch(EventSink& next) : next_(next) {}
  void on_event(const Event& event) override {
    if (const auto* error = std::get_if<Error>(&event)) throw py::value_error(error->message);
    next_.on_event(event);
  }

 private:
  EventSink& next_;
};

py::bytes translate_reply(const py::bytes& body, const std::string& source,
                          const std::string& target) {
  const Format& to = codec_named(target);
  const Unasked unasked(to.id);
  const auto encoder = to.whole_encoder(unasked.context());
  ErrorWatch watch(*encoder);
  check(codec_named(source)
            .reply_decoder(unasked.translation)
            ->on_whole(std::string_view(body), watch));
  return py::bytes(encoder->out());
}

// One stream. Lane only.
class StreamTranslator {
 public:
  StreamTranslator(const Format& from, const Format& to)
      : unasked_(to.id),
        decoder_(from.reply_decoder(unasked_.translation)),
        encoder_(to.stream_encoder(unasked_.context())) {}

  py::bytes event(const std::string& name, const py::bytes& data) {
    check(decoder_->on_stream_event(name, std::string_view(data), *encoder_));
    return taken();
  }
  py::bytes end() {
    check(decoder_->on_stream_end(*encoder_));
    return taken();
  }

 private:
  py::bytes taken() { return py::bytes(std::exchange(encoder_->out(), std::string())); }

  const Unasked unasked_;
  const std::unique_ptr<ReplyDecoder> decoder_;
  const std::unique_ptr<ReplyEncoder> encoder_;
};

}  // namespace

void bind_codecs(py::module_& module) {
  module.def("translate_request", &translate_request, py::arg("body"), py::arg("source"),
             py::arg("target"), py::arg("model") = "", py::arg("stream") = false,
             "A request body in another wire format; `model` and `stream` for sources that name "
             "them in the path.");
  module.def("translate_reply", &translate_reply, py::arg("body"), py::arg("source"),
             py::arg("target"), "A whole reply's body in another wire format.");
  py::class_<StreamTranslator>(module, "StreamTranslator",
                               "One streamed reply on its way to another wire format.")
      .def("event", &StreamTranslator::event, py::arg("name"), py::arg("data"),
           "One event in, as many whole frames as it makes out.")
      .def("end", &StreamTranslator::end,
           "The last frames. Raises ValueError when the source's terminator was not seen.");
  module.def(
      "stream_translator",
      [](const std::string& source, const std::string& target) {
        return std::make_unique<StreamTranslator>(codec_named(source), codec_named(target));
      },
      py::arg("source"), py::arg("target"));
}

}  // namespace llm_proxy
