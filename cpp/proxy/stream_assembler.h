#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "http/sse_reader.h"
#include "model/events.h"
#include "translate/codec.h"

namespace llm_proxy {

// Puts a stream in the client's format together again, as one chat completion, for the rings that
// look at whole replies. Owned by an exchange; fed what the client is sent.
class StreamAssembler final : public EventSink {
 public:
  StreamAssembler(const Codec& client, const EncodeContext& context)
      : decoder_(client.reply_decoder(*context.translation)),
        encoder_(codec(WireFormat::openai_chat).whole_encoder(context)) {}

  void feed(std::string_view bytes) {
    SseEvent event;
    for (;;) {
      const auto got = reader_.next(bytes, event);
      if (!got || !*got) return;
      (void)decoder_->on_stream_event(event.event, event.data, *this);
    }
  }

  // The completion; empty when the stream did not end well.
  std::string take() {
    SseEvent event;
    if (const auto last = reader_.finish(event); last && *last) {
      (void)decoder_->on_stream_event(event.event, event.data, *this);
    }
    if (!decoder_->on_stream_end(*this)) return {};
    return std::move(encoder_->out());
  }

 private:
  void on_event(const Event& event) override { encoder_->on_event(event); }

  SseReader reader_;
  std::unique_ptr<ReplyDecoder> decoder_;
  std::unique_ptr<ReplyEncoder> encoder_;
};

}  // namespace llm_proxy
