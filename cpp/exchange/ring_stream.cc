#include "exchange/ring_stream.h"

#include <utility>

#include "exchange/ring_bodies.h"

namespace llm_proxy {

RingStream::RingStream(const Format& client, const EncodeContext& context, const Options& options)
    : decoder_(client.reply_decoder(*context.translation)),
      observer_(client.observer()),
      whole_(format_of(kRingFormat).whole_encoder(context)),
      usage_(options.usage),
      // The elements of an array are told apart only when all are there.
      hold_all_(options.hold_all || context.json_array),
      hear_(options.hear) {
  if (context.json_array) array_.emplace(SseReader::kDefaultLimit);
  if (options.cut_loops) loops_.emplace();
  // What holds all is put right by the plugins themselves.
  if (options.placeholders != nullptr && !options.placeholders->empty() && !options.hold_all) {
    restorer_.emplace(*options.placeholders);
    encoder_ = client.stream_encoder(context);
  }
}

void RingStream::add(std::string& bytes) {
  std::string passing;
  if (array_) {
    array_->add(bytes);
    for (SseEvent element; array_->next(element.data);) decode(element);
    if (const auto status = array_->status(); !status) refuse(status.error());
    encoder_ ? take_encoded(passing) : give(bytes, passing);
    bytes.clear();
    return;
  }
  std::string_view input = bytes;
  SseEvent event;
  for (;;) {
    const auto before = input;
    const auto got = reader_.next(input, event);
    if (!got) refuse(got.error());
    const auto taken = before.substr(0, before.size() - input.size());
    if (!pending_.append(taken)) {
      refuse(reply_too_large());
      break;
    }
    if (!got || !*got) break;
    decode(event);
    if (encoder_) {
      take_encoded(passing);
    } else {
      give(pending_.view(), passing);
    }
    pending_.clear();
  }
  bytes.swap(passing);
}

void RingStream::give(std::string_view bytes, std::string& passing) {
  if (!hold_all_ && !holding_) {
    passing += bytes;
    return;
  }
  if (!held_.append(bytes)) refuse(reply_too_large());
}

void RingStream::take_encoded(std::string& passing) {
  give(encoder_->out(), passing);
  encoder_->out().clear();
}

void RingStream::decode(const SseEvent& event) {
  observer_->on_stream_event(event.event, event.data);
  holding_ = holding_ || !observer_->finish_word().empty();
  (void)decoder_->on_stream_event(event.event, event.data, *this);
}

void RingStream::finish() {
  std::string none;
  SseEvent event;
  if (!array_) {
    if (const auto last = reader_.finish(event); last && *last) decode(event);
  }
  holding_ = true;
  complete_ = static_cast<bool>(decoder_->on_stream_end(*this));
  if (!encoder_) {
    give(pending_.view(), none);
  } else if (complete_) {
    take_encoded(none);
  } else {
    refuse({ErrorKind::upstream_cut, "the upstream's stream ended before it was finished"});
  }
  pending_.clear();
}

std::string RingStream::take_held() {
  return held_.take();
}

std::string RingStream::take_completion() {
  return complete_ ? std::move(whole_->out()) : std::string();
}

void RingStream::refuse(Error error) {
  if (!refusal_) refusal_ = std::move(error);
}

void RingStream::on_event(const Event& event) {
  if (!meter_.add(event)) return refuse(reply_too_large());
  if (std::holds_alternative<Finish>(event) && usage_ != nullptr && !usage_->empty()) {
    whole_->on_event(UsageUpdate{*usage_});
  }
  whole_->on_event(event);
  if (const auto* start = std::get_if<PartStart>(&event)) {
    part_ = PartStart{start->index, start->kind};
    part_.call_kind = start->call_kind;
  }
  const auto* delta = std::get_if<PartDelta>(&event);
  if (delta != nullptr && part_.kind == PartKind::text) {
    if (hear_) delta->text.decode_to(heard_);
    if (loops_) {
      const auto found = loops_->add(delta->text.decode());
      if (found != LoopDetector::Found::nothing) {
        const bool loop = found == LoopDetector::Found::loop;
        Error error{ErrorKind::upstream_garbled,
                    loop ? "the reply was cut: [LLMPROXY_ERROR: INFINITE_LOOP_DETECTED_SNIPPED]"
                         : "the reply was cut: [LLMPROXY_ERROR: STUTTERING_DETECTED_SNIPPED]"};
        error.code = loop ? "infinite_loop" : "stuttering";
        refuse(std::move(error));
      }
    }
  }
  if (encoder_) restore(event);
}

// Sealed thinking stays as it is: its seal is over the text the upstream knows.
void RingStream::restore(const Event& event) {
  const auto* delta = std::get_if<PartDelta>(&event);
  if (delta == nullptr) {
    if (!std::holds_alternative<UsageUpdate>(event)) flush_text();
    encoder_->on_event(event);
    return;
  }
  if (part_.kind == PartKind::thinking || part_.kind == PartKind::raw) {
    encoder_->on_event(event);
    return;
  }
  const bool in_json = part_.kind == PartKind::tool_call && part_.call_kind == CallKind::function;
  std::string text;
  restorer_->add(delta->text.decode(), in_json, text);
  if (!text.empty()) encoder_->on_event(PartDelta{delta->index, Text::plain(text)});
}

void RingStream::flush_text() {
  std::string text;
  restorer_->finish(text);
  if (!text.empty()) encoder_->on_event(PartDelta{part_.index, Text::plain(text)});
}

}  // namespace llm_proxy
