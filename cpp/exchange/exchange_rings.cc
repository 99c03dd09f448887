// The part of an exchange that talks to the rings: what plugins see is OpenAI chat, whatever the
// client speaks.

#include <algorithm>
#include <utility>

#include "exchange/exchange.h"
#include "exchange/ring_bodies.h"
#include "exchange/ring_stream.h"
#include "http/head_writer.h"
#include "json/reader.h"
#include "rings/native/chat_view.h"
#include "rings/native/digest.h"

namespace llm_proxy {
namespace {

// Names a client for plugins without telling its key: 16 hex digits of a SHA-256.
std::string key_hash(std::string_view owner) {
  return owner.empty() ? std::string() : sha256_hex(owner, 8);
}

// What a plugin added or changed; framing is ours.
void append_ring_fields(const RingHeaders& headers, std::string& fields) {
  HeadWriter writer(fields);
  for (const auto& [name, value] : headers) {
    if (name != "content-type" && name != "content-length" && name != "transfer-encoding") {
      writer.field(name, value);
    }
  }
}

double seconds(std::chrono::microseconds duration) {
  return static_cast<double>(duration.count()) / 1e6;
}

}  // namespace

bool Exchange::has_rings() const {
  return snapshot_->rings && !snapshot_->rings->rings().empty();
}

// The gate in front of everything that leaves the proxy. False: no ring has let the request pass,
// and the client has been told.
bool Exchange::may_leave() {
  if (cleared_ || !has_rings()) return true;
  send_error(
      {ErrorKind::internal, "the request was not shown to the ring plugins, so it is not sent on"});
  return false;
}

// What plugins cannot read passes where none of them guards, or where the operator lets it. False:
// it is refused, and the client has been told.
bool Exchange::pass_or_refuse(bool guarded, std::string_view what) {
  if (!guarded || snapshot_->config->plugins.unreadable == UnreadableBody::pass) return true;
  Error error{ErrorKind::unsupported,
              "The ring plugins that guard this proxy cannot read " + std::string(what) +
                  ". Its operator can let such traffic pass (plugins.unreadable: pass)."};
  error.code = "unreadable_by_plugins";
  send_error(error);
  return false;
}

// Whether the reply of this operation is a model's text, which the reply ring reads.
bool Exchange::shows_reply() const {
  return session_->request().frontend.operation != Operation::embeddings;
}

// Shows the client's request as OpenAI chat; `then` comes when the rings have let it pass.
void Exchange::run_request_rings(void (Exchange::*then)()) {
  if (format_ == kRingFormat) return ask_rings(std::string(body()), then);
  JsonReader own(body(), kShownLimits);
  if (!own.skip() || !own.finish()) return send_error(own.error(ErrorKind::malformed_request));
  if (auto decoded = decode_request(); !decoded) return send_error(decoded.error());
  auto view = chat_view(*request_, peek_.model);
  if (!view) return send_error(view.error());
  ask_rings(*std::move(view), then);
}

void Exchange::ask_rings(std::string view, void (Exchange::*then)()) {
  const auto& host = *snapshot_->rings;
  const auto& request = session_->request();
  const auto limit = snapshot_->config->plugins.guarded_body_bytes;
  const auto bytes = std::max(view.size(), body().size());
  if (bytes > limit && host.guards().request()) {
    return send_error({ErrorKind::body_too_large,
                       "the ring plugins that guard this proxy read requests of up to " +
                           std::to_string(limit) + " bytes"});
  }
  if (const auto refused = charge_copies(bytes)) return send_error(*refused);
  RingRequest ring;
  ring.body = std::move(view);
  ring.request_id = record_.request_id;
  ring.client_host = request.peer;
  ring.method = request.head.method;
  ring.path = without_credentials(request.head.query, request.key);
  ring.path = std::string(request.head.path) + (ring.path.empty() ? "" : "?" + ring.path);
  ring.frontend = name(format_);
  ring.key_hash = key_hash(request.owner);
  ring.headers = client_headers();
  ring.operation = name(request.frontend.operation);
  ring_ = snapshot_->rings->open(std::move(ring), context_.worker());
  if (auto fits = ring_->check_request(); !fits) {
    ring_.reset();
    return send_error(fits.error());
  }
  after_rings_ = then;
  if (!host.rings().request()) return clear_request();

  ring_waiting_ = true;
  arm_ring_deadline(Ring::ingress, bytes);
  ring_->run_request([weak = weak_from_this()](RingVerdict&& verdict) {
    const auto self = weak.lock();
    if (!self || !std::exchange(self->ring_waiting_, false)) return;
    self->ring_deadline_.disarm();
    self->on_request_verdict(std::move(verdict));
  });
}

void Exchange::clear_request() {
  cleared_ = true;
  (this->*after_rings_)();
}

void Exchange::arm_ring_deadline(Ring ring, std::size_t bytes) {
  ring_running_ = ring;
  ring_bytes_ = bytes;
  ring_waits_ = 0;
  context_.worker().deadlines(ring_->patience(ring, bytes)).arm(ring_deadline_);
}

// The chain is late. While the interpreter is busy with a plugin that is within its limit, whosever
// it is, the exchange waits on, so that nobody's large request is another's failure; not for ever.
void Exchange::on_rings_late() {
  constexpr int kMostWaits = 8;
  if (ring_waits_ < kMostWaits && ring_->is_busy()) {
    ++ring_waits_;
    context_.worker().deadlines(ring_->patience(ring_running_, ring_bytes_)).arm(ring_deadline_);
    return;
  }
  ring_waiting_ = false;
  auto verdict = ring_->overdue(ring_running_);
  if (ring_hears_) return on_chunk_verdict(verdict);
  pending_reply_ ? on_reply_verdict(std::move(verdict)) : on_request_verdict(std::move(verdict));
}

void Exchange::on_request_verdict(RingVerdict&& verdict) {
  if (session_ == nullptr) return;
  placeholders_ = std::move(verdict.placeholders);
  switch (verdict.kind) {
    case RingVerdict::Kind::proceed:
      return clear_request();
    case RingVerdict::Kind::replace:
      return replace_request(std::move(verdict.body));
    case RingVerdict::Kind::block:
      return send_block(verdict);
    case RingVerdict::Kind::answer:
      return answer_from_ring(std::move(verdict));
  }
}

void Exchange::send_block(const RingVerdict& verdict) {
  send_error(error_of_block(verdict));
}

Error Exchange::error_of_block(const RingVerdict& verdict) {
  Error error{kind_of_status(verdict.status), verdict.message};
  error.status = verdict.status;
  error.code = verdict.type;  // the type is the format's own word, the code anybody's
  record_.blocked = std::string(name(verdict.ring)) + '/' + verdict.plugin + ':' + verdict.type;
  return error;
}

void Exchange::replace_request(std::string chat_body) {
  auto peek = peek_request(chat_body);
  if (peek && stream_ && !peek->stream) {
    keep_streaming(chat_body);
    peek = peek_request(chat_body);
  }
  if (!peek)
    return send_error({ErrorKind::internal, "a ring plugin left a request that is no JSON object"});
  const auto view = ring_view(session_->request().frontend.operation);
  if (view == RingView::prompts) return replace_plain(std::move(chat_body));
  if (view == RingView::stored) return clear_request();  // what is stored stays as it is
  // In the client's own format the raw path stays open, for the new bytes.
  if (format_ == kRingFormat) {
    replaced_body_ = std::move(chat_body);
    peek_ = *std::move(peek);
    request_.reset();
  } else if (auto edited = edit_of_client(chat_body)) {
    auto model = std::move(peek->model);
    hide_rest(placeholders_, *edited);
    peek = peek_request(*edited);
    if (!peek) return send_error(peek.error());
    replaced_body_ = *std::move(edited);
    request_.reset();
    peek_ = *std::move(peek);
    peek_.model = std::move(model);
    peek_.stream = stream_;
  } else {
    if (auto decoded = decode_request(); !decoded) return send_error(decoded.error());
    replaced_body_ = std::move(chat_body);
    auto replaced = format_of(kRingFormat).decode_request(*replaced_body_, {}, false);
    if (!replaced) return send_error(replaced.error());
    replaced_request_ = *std::move(replaced);
    peek_.model = peek->model;
  }
  clear_request();
}

void Exchange::replace_plain(std::string chat_body) {
  auto edited = prompts_body(body(), prompts_member(plain_path_), chat_body);
  if (!edited) return send_error(edited.error());
  replaced_body_ = *std::move(edited);
  clear_request();
}

// The client's body with what plugins did to its chat view.
std::optional<std::string> Exchange::edit_of_client(std::string_view chat_body) {
  if (!decode_request()) return std::nullopt;
  const auto view = chat_view(*request_, peek_.model);
  if (!view) return std::nullopt;
  return edited_request(client_format(), body(), *view, chat_body);
}

// A plugin answered in the upstream's place: a chat completion, given in the client's format and as
// a stream if asked.
void Exchange::answer_from_ring(RingVerdict&& verdict) {
  const auto operation = session_->request().frontend.operation;
  if (operation == Operation::count_tokens) return estimate_count();
  if (operation != Operation::generate) {
    return send_error({ErrorKind::internal, "ring plugin '" + verdict.plugin +
                                                "' answered with a chat completion, which is no "
                                                "answer to " +
                                                record_.path});
  }
  std::string fields;
  HeadWriter writer(fields);
  writer.field("x-proxy-request-id", record_.request_id);
  append_ring_fields(verdict.headers, fields);
  if (!stream_ && format_ == kRingFormat) {
    return send_reply(verdict.status, fields, kJson, std::move(verdict.body));
  }
  if (auto decoded = decode_request(); !decoded) return send_error(decoded.error());
  prepare_encoding();
  auto encoder = stream_ ? client_format().stream_encoder(lane_->encode_context)
                         : client_format().whole_encoder(lane_->encode_context);
  const auto decoder = format_of(kRingFormat).reply_decoder(lane_->translation);
  if (auto decoded = decoder->on_whole(verdict.body, *encoder); !decoded) {
    return send_error({ErrorKind::internal,
                       "a ring plugin's answer is no chat completion: " + decoded.error().message});
  }
  if (stream_) {
    // As it was kept: it has been through the reply ring once.
    begin_stream(verdict.status,
                 lane_->encode_context.json_array ? kJson : "text/event-stream; charset=utf-8",
                 fields);
    session_->end_stream(encoder->out(), /*clean=*/true);
  } else {
    send_reply(verdict.status, fields, kJson, std::move(encoder->out()));
  }
}

// A reply in the client's format, as a chat completion.
std::string Exchange::body_as_chat(std::string_view client_body) {
  if (!plain_path_.empty()) return completion_view(client_body).value_or(std::string());
  if (format_ == kRingFormat) return std::string(client_body);
  if (!decode_request()) return {};
  prepare_encoding();
  const auto decoder = client_format().reply_decoder(lane_->translation);
  const auto encoder = format_of(kRingFormat).whole_encoder(lane_->encode_context);
  if (!decoder->on_whole(client_body, *encoder)) return {};
  return std::move(encoder->out());
}

void Exchange::run_reply_ring(int status, std::string fields, std::string content_type,
                              std::string body) {
  if (const auto refused = charge_copies(body.size())) return send_error(*refused);
  RingReply reply;
  reply.status = status;
  reply.fields = fields;
  reply.body = body_as_chat(body);
  if (reply.body.empty() && !body.empty() &&
      !pass_or_refuse(snapshot_->rings->guards().reply(), "the provider's reply")) {
    return;
  }
  reply.duration = seconds(since_began());
  pending_reply_ =
      PendingReply{status, std::move(fields), std::move(content_type), std::move(body)};
  ask_reply_ring(std::move(reply));
}

// A stream meets the reply ring when there is one, when something has to be put back, or when
// background wants to know what was said.
void Exchange::open_ring_stream() {
  if (!ring_ || !plain_path_.empty()) return;
  const auto& rings = *snapshot_->rings;
  if (!rings.rings().reply() && !rings.rings().background() && placeholders_.empty()) return;
  if (!decode_request()) return;
  prepare_encoding();
  RingStream::Options options;
  options.hold_all = rings.stream_rules().hold_all;
  options.cut_loops = rings.stream_rules().cut_loops;
  options.hear = rings.stream_rules().hear;
  options.placeholders = &placeholders_;
  options.usage = &record_.usage;
  ring_stream_ = std::make_unique<RingStream>(client_format(), lane_->encode_context, options);
}

// Gives the text that has come to who wants to hear it. While they look at one piece the next one
// grows.
void Exchange::tell_chunk() {
  if (!ring_stream_ || ring_waiting_ || stream_over_) return;
  auto text = ring_stream_->take_heard();
  if (text.empty()) return;
  ring_waiting_ = ring_hears_ = true;
  arm_ring_deadline(Ring::post_flight, text.size());
  ring_->run_chunk(std::move(text), [weak = weak_from_this()](RingVerdict&& verdict) {
    const auto self = weak.lock();
    if (!self || !std::exchange(self->ring_waiting_, false)) return;
    self->ring_deadline_.disarm();
    self->on_chunk_verdict(verdict);
  });
}

void Exchange::on_chunk_verdict(const RingVerdict& verdict) {
  ring_hears_ = false;
  if (session_ == nullptr || stream_over_) return;
  if (verdict.kind == RingVerdict::Kind::block) {
    return refuse_stream(error_of_block(verdict));
  }
  tell_chunk();
  if (stream_told_ && !ring_waiting_) run_stream_ring();
}

// The stream's end waits until all of it was heard.
void Exchange::end_heard_stream() {
  stream_told_ = true;
  tell_chunk();
  if (!ring_waiting_ && !stream_over_) run_stream_ring();
}

// The plugins look at a stream that has ended well; its end, or all of it, is still here.
void Exchange::run_stream_ring() {
  RingReply reply;
  reply.status = pending_reply_ ? pending_reply_->status : record_.status;
  if (pending_reply_) reply.fields = pending_reply_->fields;
  reply.streamed = !pending_reply_;
  reply.body = ring_stream_->take_completion();
  reply.duration = seconds(since_began());
  reply.first_token = seconds(first_output_);
  if (!pending_reply_) pending_reply_.emplace();
  ask_reply_ring(std::move(reply));
}

void Exchange::ask_reply_ring(RingReply reply) {
  ring_waiting_ = true;
  arm_ring_deadline(Ring::post_flight, reply.body.size());
  ring_->run_reply(std::move(reply), [weak = weak_from_this()](RingVerdict&& verdict) {
    const auto self = weak.lock();
    if (!self || !std::exchange(self->ring_waiting_, false)) return;
    self->ring_deadline_.disarm();
    self->on_reply_verdict(std::move(verdict));
  });
}

void Exchange::on_stream_verdict(RingVerdict&& verdict) {
  const auto head = *std::exchange(pending_reply_, std::nullopt);
  auto rest = ring_stream_->take_held();
  if (verdict.kind == RingVerdict::Kind::block) {
    return refuse_stream(error_of_block(verdict));
  }
  if (ring_stream_->holds_all()) {
    auto fields = head.fields;
    if (verdict.kind != RingVerdict::Kind::proceed) {
      const auto decoder = format_of(kRingFormat).reply_decoder(lane_->translation);
      const auto encoder = client_format().stream_encoder(lane_->encode_context);
      if (auto decoded = decoder->on_whole(verdict.body, *encoder); !decoded) {
        return refuse_stream({ErrorKind::internal, "a ring plugin's reply is no chat completion: " +
                                                       decoded.error().message});
      }
      rest = std::move(encoder->out());
      append_ring_fields(verdict.headers, fields);
    }
    begin_stream(head.status, head.content_type, fields);
  }
  keep_alive_.disarm();
  keep_stream(rest);
  session_->end_stream(rest, /*clean=*/true);
}

// Ends the stream with an error, or the request if nothing of the stream was written yet.
void Exchange::refuse_stream(const Error& error) {
  stream_over_ = true;
  pending_reply_.reset();
  if (lane_->call) lane_->call->cancel();
  send_error(error);
}

void Exchange::on_reply_verdict(RingVerdict&& verdict) {
  if (session_ == nullptr || !pending_reply_) return;
  if (ring_stream_) {
    reply_ring_ran_ = true;
    return on_stream_verdict(std::move(verdict));
  }
  auto reply = *std::exchange(pending_reply_, std::nullopt);
  reply_ring_ran_ = true;
  switch (verdict.kind) {
    case RingVerdict::Kind::proceed:
      break;
    case RingVerdict::Kind::block:
      return send_block(verdict);
    case RingVerdict::Kind::replace:
    case RingVerdict::Kind::answer: {
      reply.status = verdict.status;
      append_ring_fields(verdict.headers, reply.fields);
      if (!plain_path_.empty()) {
        auto edited = edited_completion(reply.body, verdict.body);
        if (!edited) return send_error(edited.error());
        reply.body = *std::move(edited);
        break;
      }
      if (format_ == kRingFormat) {
        reply.body = std::move(verdict.body);
        break;
      }
      const auto view = body_as_chat(reply.body);
      prepare_encoding();
      auto edited =
          edited_reply(client_format(), lane_->encode_context, reply.body, view, verdict.body);
      if (!edited) {
        return send_error({ErrorKind::internal, "a ring plugin's reply is no chat completion: " +
                                                    edited.error().message});
      }
      reply.body = *std::move(edited);
      break;
    }
  }
  keep_whole(reply.status, reply.body);
  send_reply(reply.status, reply.fields, reply.content_type, std::move(reply.body));
}

// The exchange has ended: background gets its record.
void Exchange::finish_rings() {
  if (!ring_) return;
  if (std::exchange(ring_hears_, false)) {
    ring_waiting_ = false;
    ring_deadline_.disarm();
    ring_->cancel();
  }
  const auto operation = session_->request().frontend.operation;
  if (operation == Operation::count_tokens || operation == Operation::stored) {
    ring_.reset();  // nothing was generated
    return;
  }
  RingOutcome outcome;
  outcome.status = record_.status;
  outcome.backend = record_.backend;
  outcome.model = record_.upstream_model;
  outcome.input_tokens = record_.usage.input.value_or(-1);
  outcome.output_tokens = record_.usage.output.value_or(-1);
  outcome.duration = seconds(since_began());
  if (asked_.count() >= 0 && answered_ >= asked_) outcome.upstream = seconds(answered_ - asked_);
  if (first_output_.count() > 0) outcome.first_token = seconds(first_output_);
  if (ring_stream_ && !reply_ring_ran_ && record_.status != 499) {
    RingReply reply;
    reply.status = record_.status;
    reply.streamed = true;
    reply.body = ring_stream_->take_completion();
    reply.duration = outcome.duration;
    reply.first_token = seconds(first_output_);
    outcome.reply = std::move(reply);
  } else if (chat_reply_ && !reply_ring_ran_) {
    RingReply reply;
    reply.status = record_.status;
    reply.body = std::move(*chat_reply_);
    reply.duration = outcome.duration;
    outcome.reply = std::move(reply);
  }
  ring_->run_background(std::move(outcome));
  ring_.reset();
}

}  // namespace llm_proxy
