#include "upstream/relay.h"

#include <utility>

#include "base/redact.h"
#include "json/reader.h"

namespace llm_proxy {
namespace {

// The most that a translated stream may make its encoder keep: Responses repeats all of it at the
// end, several times over.
constexpr std::size_t kMaxStreamed = 16u << 20;

Error stream_too_large() {
  return {ErrorKind::upstream_too_large, "the upstream's stream holds more than " +
                                             std::to_string(kMaxStreamed >> 20) +
                                             " MiB of content"};
}

// The beginning of a body, as a reason: one line of printable ASCII.
std::string shown(std::string_view body) {
  std::string out(body.substr(0, 80));
  for (auto& c : out) {
    if (c < ' ' || c > '~') c = ' ';
  }
  return out.empty() ? "nothing" : out;
}

Error cut() {
  return {ErrorKind::upstream_cut, "the upstream's stream ended before it was finished"};
}

bool is_success(int status) {
  return status >= 200 && status < 300;
}

}  // namespace

Relay::Relay(RelayOwner& owner, const Format& upstream, const Format& client)
    : owner_(owner), upstream_(upstream), client_(client) {}

void Relay::on_head(UpstreamHead head) {
  head_ = std::move(head);
  // An error under text/event-stream is still one JSON body: the status decides.
  state_ = is_success(head_.status) && streams(head_) ? State::streaming : State::collecting;
}

void Relay::on_bytes(std::string_view payload) {
  if (state_ == State::collecting) {
    if (!body_.append(payload)) return fail(reply_too_large());
    charge(body_.size());
  } else if (state_ == State::streaming) {
    transform_stream(payload);
    if (stream_error_) return fail(std::move(*stream_error_));
    charge(kept());
  }
}

void Relay::charge(std::size_t bytes) {
  if (bytes <= kUncharged) return;
  if (auto refused = charge_.grow_to(bytes)) fail(*std::move(refused));
}

bool Relay::on_turn() {
  if (state_ != State::streaming || !client_streams()) return true;
  if (!committed_ && (meaningful_ || out_.size() > kMaxHeld)) commit();
  return !committed_ || out_.empty() || owner_.write_stream(out_);
}

void Relay::on_end() {
  if (state_ == State::collecting) {
    finish_whole();
  } else if (state_ == State::streaming) {
    auto ended = transform_end();
    if (stream_error_) {
      fail(std::move(*stream_error_));
    } else if (!ended) {
      fail(std::move(ended).error());
    } else if (!client_streams()) {
      state_ = State::done;
      owner_.on_whole_reply(head_, "application/json", std::move(out_));
    } else {
      if (!committed_ && !meaningful_) {
        return fail({ErrorKind::upstream_cut, "the upstream's stream ended without any output"});
      }
      if (!committed_) commit();
      state_ = State::done;
      owner_.on_stream_end(out_, /*clean=*/true);
    }
  }
}

void Relay::on_failure(Error error) {
  if (state_ != State::done) fail(std::move(error));
}

bool Relay::keep_alive() {
  if (state_ != State::streaming) return true;
  append_keep_alive();
  return owner_.write_stream(out_);
}

void Relay::commit() {
  committed_ = true;
  owner_.on_stream_commit(head_, stream_content_type());
}

void Relay::fail(Error error) {
  state_ = State::done;
  if (!committed_ && meaningful_ && !rated_) commit();
  if (!committed_) {
    out_.clear();
    owner_.on_attempt_failed(std::move(error), std::move(head_), {});
    return;
  }
  redact(error.message, secret_);
  owner_.note_error(error);
  append_stream_error(error);
  owner_.on_stream_end(out_, /*clean=*/false);
}

void Relay::finish_whole() {
  state_ = State::done;
  if (!is_success(head_.status)) {
    if (head_.status < 400) {
      owner_.on_attempt_failed({ErrorKind::upstream_garbled,
                                "the upstream answered with a redirect or an odd status (" +
                                    std::to_string(head_.status) + "), which is not followed"},
                               std::move(head_), {});
      return;
    }
    Error error = upstream_.decode_error(head_.status, body_.view());
    if (head_.retry_after) error.retry_after = head_.retry_after;
    // A page of some gateway before the upstream is no error of its format.
    const bool verbatim = upstream_.id == client_.id && is_json_object(body_.view());
    owner_.on_attempt_failed(std::move(error), std::move(head_),
                             verbatim ? body_.take() : std::string());
    return;
  }
  auto content_type = head_.content_type;
  if (auto transformed = transform_whole(body_.text(), content_type); !transformed) {
    owner_.on_attempt_failed(std::move(transformed).error(), std::move(head_), {});
    return;
  }
  owner_.on_whole_reply(head_, std::move(content_type), body_.take());
}

// ---- raw ----

RawRelay::RawRelay(RelayOwner& owner, const Format& codec, bool keep_usage_chunk, bool json_array,
                   bool answers, bool rated)
    : Relay(owner, codec, codec),
      observer_(codec.observer()),
      reader_(kMaxEvent),
      keep_usage_chunk_(keep_usage_chunk),
      answers_(answers) {
  rated_ = rated;
  if (json_array) array_.emplace(kMaxEvent);
}

Result<void> RawRelay::transform_whole(std::string& body, std::string&) {
  if (auto good = rate(body); !good) {
    if (rated_) return good;
    redact(body, secret_);
    owner_.note_error(good.error());
  }
  owner_.note_usage(observer_->usage());
  owner_.note_finish(observer_->finish_word());
  return {};
}

// Is it an answer?
Result<void> RawRelay::rate(std::string_view body) {
  if (!is_json_object(body)) {
    return Error{ErrorKind::upstream_garbled, "the upstream's reply is not JSON: " + shown(body)};
  }
  observer_->on_whole(body);
  if (observer_->error()) return *observer_->error();
  if (answers_ && !observer_->meaningful() && observer_->finish_word().empty()) {
    return Error{ErrorKind::upstream_garbled,
                 "the upstream's reply holds no answer: " + shown(body)};
  }
  return {};
}

void RawRelay::transform_array(std::string_view payload) {
  out_ += payload;
  array_->add(payload);
  for (SseEvent element; array_->next(element.data);) observe(element);
  if (observer_->error()) redact(out_, secret_);
  if (const auto status = array_->status(); !status && !stream_error_) {
    stream_error_ = status.error();
  }
}

void RawRelay::transform_stream(std::string_view payload) {
  if (in_array()) return transform_array(payload);
  SseEvent event;
  for (;;) {
    const auto before = payload;
    const auto got = reader_.next(payload, event);
    if (!got) {
      if (!stream_error_) stream_error_ = got.error();
      return;
    }
    const auto taken = before.substr(0, before.size() - payload.size());
    if (!*got) {
      if (!event_bytes_.append(taken)) stream_error_ = reply_too_large();
      if (reader_.between_events()) pass_comments();
      return;
    }
    const bool pass = observe(event);
    const auto begun = out_.size();
    if (pass) {
      out_ += event_bytes_.view();
      out_ += taken;
      if (observer_->error()) redact(out_, secret_, begun);
    }
    event_bytes_.clear();
  }
}

// Comments between two events go on as they come. They commit nothing: what of them would not be
// held until there is an event is left out.
void RawRelay::pass_comments() {
  if (committed_ || out_.size() + event_bytes_.size() <= kMaxHeld) out_ += event_bytes_.view();
  event_bytes_.clear();
}

// False: the client does not get this event.
bool RawRelay::observe(const SseEvent& event) {
  if (!is_json_object(event.data) && event.data != "[DONE]") {
    // Once the stream has begun, one unreadable event is skipped; before, another upstream may do
    // better.
    if (!committed_ && !stream_error_) {
      stream_error_ = Error{ErrorKind::upstream_garbled,
                            "the upstream's event is not JSON: " + shown(event.data)};
    }
    return false;
  }
  last_word_ = event.event == "message_stop";
  observer_->on_stream_event(event.event, event.data);
  meaningful_ = meaningful_ || observer_->meaningful();
  // After the commit point the upstream's own error event goes to the client as it came.
  if (observer_->error() && !committed_ && !stream_error_) {
    if (rated_) {
      stream_error_ = observer_->error();
    } else {
      meaningful_ = true;
    }
  }
  if (keep_usage_chunk_ || !observer_->usage_only()) return true;
  owner_.note_usage(observer_->usage());  // what the client does not see, plugins do
  return false;
}

Result<void> RawRelay::transform_end() {
  SseEvent event;
  const auto left = reader_.finish(event);
  open_event_ = left && *left;
  if (!open_event_ || observe(event)) out_ += event_bytes_.view();
  if (observer_->error()) redact(out_, secret_);
  owner_.note_usage(observer_->usage());
  owner_.note_finish(observer_->finish_word());
  const bool finished = !observer_->finish_word().empty();
  meaningful_ = meaningful_ || finished;
  if (!upstream_.terminator.empty() && finished && !observer_->error() && !last_word_) {
    // A provider that stops behind its finish, which is the upstream's own word: only the bare
    // terminator is missing, which clients wait for. Nothing is made up.
    if (open_event_) out_ += "\n\n";
    out_ += upstream_.terminator;
    return {};
  }
  if (observer_->terminated() && (!in_array() || array_->ended())) return {};
  if (observer_->error()) return *observer_->error();
  return cut();
}

void RawRelay::append_stream_error(const Error& error) {
  owner_.note_usage(observer_->usage());
  if (observer_->error()) return;  // it said so itself, in its own words
  if (in_array()) return;          // an array that is not closed says enough
  if (open_event_) out_ += "\n\n";
  client_.encode_stream_error(error, out_);
}

void RawRelay::append_keep_alive() {
  if (in_array()) return;
  out_ += upstream_.keep_alive;
}

// ---- translating ----

TranslatingRelay::TranslatingRelay(RelayOwner& owner, const Format& upstream, const Format& client,
                                   const EncodeContext& context, bool stream, SealStore& seals,
                                   std::string session, TimePoint now)
    : Relay(owner, upstream, client),
      decoder_(upstream.reply_decoder(*context.translation)),
      encoder_(stream ? client.stream_encoder(context) : client.whole_encoder(context)),
      meter_(stream ? kMaxStreamed : kMaxReply),
      recorder_(seals, std::move(session), *encoder_, now, context, client.calls_lack_ids),
      reader_(kMaxEvent),
      stream_(stream),
      json_array_(context.json_array) {
  if (context.translation->quirks.cumulative_text)
    new_text_.emplace(static_cast<EventSink&>(*this));
}

std::string_view TranslatingRelay::stream_content_type() const {
  return json_array_ ? std::string_view("application/json") : client_.stream_type;
}

void TranslatingRelay::on_event(const Event& event) {
  if (const auto* error = std::get_if<Error>(&event)) {
    if (!stream_error_) stream_error_ = *error;
    return;  // encoded when the relay has decided what it means
  }
  if (const auto* usage = std::get_if<UsageUpdate>(&event)) owner_.note_usage(usage->usage);
  if (const auto* finish = std::get_if<Finish>(&event)) owner_.note_finish(finish->word);
  if (!meter_.add(event)) {
    if (!stream_error_) stream_error_ = stream_ ? stream_too_large() : reply_too_large();
    return;
  }
  // A head or an empty part commits nothing; content, a call or an end does.
  if (const auto* delta = std::get_if<PartDelta>(&event)) {
    meaningful_ = meaningful_ || !delta->text.empty();
  } else if (const auto* start = std::get_if<PartStart>(&event)) {
    meaningful_ = meaningful_ || start->kind == PartKind::tool_call || start->kind == PartKind::raw;
  } else if (std::holds_alternative<Finish>(event)) {
    meaningful_ = true;
  }
  recorder_.on_event(event);
}

void TranslatingRelay::take_output() {
  if (out_.empty()) {
    out_.swap(encoder_->out());
  } else {
    out_ += encoder_->out();
    encoder_->out().clear();
  }
}

Result<void> TranslatingRelay::transform_whole(std::string& body, std::string& content_type) {
  if (auto decoded = decoder_->on_whole(body, *this); !decoded) return std::move(decoded).error();
  if (stream_error_) return std::move(*stream_error_);
  body = std::move(encoder_->out());
  content_type = stream_ ? std::string(stream_content_type()) : "application/json";
  return {};
}

void TranslatingRelay::transform_stream(std::string_view payload) {
  SseEvent event;
  while (!stream_error_) {
    const auto got = reader_.next(payload, event);
    if (!got) stream_error_ = got.error();
    if (!got || !*got) break;
    decode(event);
  }
  if (stream_) take_output();
}

void TranslatingRelay::decode(const SseEvent& event) {
  const auto decoded = decoder_->on_stream_event(event.event, event.data, events());
  // One unreadable event is skipped once the stream has begun; before that it means another
  // upstream.
  if (!decoded && !committed_ && !stream_error_) stream_error_ = decoded.error();
}

Result<void> TranslatingRelay::transform_end() {
  SseEvent event;
  if (const auto last = reader_.finish(event); last && *last && !stream_error_) {
    // Cut in its middle: the stream has not ended, whatever was said before.
    if (event.data != "[DONE]" && !is_json_object(event.data)) return cut();
    decode(event);
  }
  if (!stream_error_) {
    if (auto ended = decoder_->on_stream_end(events()); !ended) return ended;
  }
  take_output();
  return {};
}

void TranslatingRelay::append_stream_error(const Error& error) {
  encoder_->on_event(error);
  take_output();
}

void TranslatingRelay::append_keep_alive() {
  encoder_->keep_alive();
  take_output();
}

}  // namespace llm_proxy
