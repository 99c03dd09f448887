#include "exchange/exchange.h"

#include <algorithm>
#include <array>
#include <utility>

#include "auth/web_origin.h"
#include "base/ascii.h"
#include "base/redact.h"
#include "exchange/ring_stream.h"
#include "http/head_writer.h"
#include "json/writer.h"

namespace llm_proxy {
namespace {

// What a reply's header lines say that makes sense in any format.
constexpr std::array<std::string_view, 4> kSharedReplyFields{"retry-after", "retry-after-ms",
                                                             "x-request-id", "x-should-retry"};

// The header lines whose name `keeps` says yes to.
template <typename Keep>
std::string filtered_fields(std::string_view lines, Keep keeps) {
  std::string out;
  while (!lines.empty()) {
    const auto end = lines.find("\r\n");
    const auto line = lines.substr(0, end);
    lines = end == std::string_view::npos ? std::string_view() : lines.substr(end + 2);
    if (!keeps(line.substr(0, line.find(':')))) continue;
    out += line;
    out += "\r\n";
  }
  return out;
}

std::string shared_fields(std::string_view lines) {
  return filtered_fields(lines, [](std::string_view name) {
    return std::any_of(kSharedReplyFields.begin(), kSharedReplyFields.end(),
                       [&](std::string_view shared) { return iequals(shared, name); });
  });
}

// `lines` without what an upstream said about the time to wait: ours counts all keys.
std::string without_retry_after(std::string_view lines) {
  return filtered_fields(lines, [](std::string_view name) {
    return !iequals(name, "retry-after") && !iequals(name, "retry-after-ms");
  });
}

}  // namespace

Exchange::Exchange(ClientSession& session, std::shared_ptr<const Snapshot> snapshot)
    : session_(&session),
      context_(session.context()),
      snapshot_(std::move(snapshot)),
      format_(session.request().frontend.format),
      began_(context_.worker().now()),
      only_lane_(*this),
      keep_alive_([this] { on_keep_alive(); }),
      ring_deadline_([this] { on_rings_late(); }) {
  const auto& request = session.request();
  record_.began = std::chrono::system_clock::time_point(
      std::chrono::milliseconds(context_.worker().clock().unix_millis()));
  record_.request_id = context_.next_request_id();
  record_.client = request.peer;
  record_.method = request.head.method;
  record_.path = request.head.path;
  record_.frontend = record_.upstream = format_;
  record_.request_bytes = request.body.size();
  copies_ = request.body.sibling_charge();
  ring_charge_ = copies_.sibling();
  context_.counters().active.fetch_add(1, std::memory_order_relaxed);
}

Exchange::~Exchange() = default;

std::chrono::microseconds Exchange::since_began() const {
  return std::chrono::duration_cast<std::chrono::microseconds>(context_.worker().now() - began_);
}

std::int64_t Exchange::unix_now() const {
  return context_.worker().clock().unix_seconds();
}

std::string_view Exchange::body() const {
  if (replaced_body_) return *replaced_body_;
  if (expanded_body_) return *expanded_body_;
  return without_commands_ ? std::string_view(*without_commands_) : session_->request().body.view();
}

void Exchange::start() {
  switch (session_->request().frontend.operation) {
    case Operation::generate:
      return generate();
    case Operation::count_tokens:
      return count_tokens();
    case Operation::embeddings:
      return relay_plain("/embeddings");
    case Operation::completions:
      return relay_plain("/completions");
    case Operation::stored:
      return answer_stored();
    case Operation::conversation:
      return answer_conversation();
    case Operation::models:
      return answer_models();
    case Operation::model:
      return answer_model();
    case Operation::health:
    case Operation::ready:
      return answer_health();
    case Operation::admin:
    case Operation::metrics:
      return answer_admin();
    case Operation::diagnostics:
      return answer_diagnostics();
    case Operation::reactivate:
      return reactivate();
    case Operation::hello:
      return send_reply(200, {}, kJson, "{}");
    case Operation::preflight:
      return send_reply(200, preflight_fields(session_->request().head), {}, {});
    default:
      return send_error({ErrorKind::not_found, nothing_at(record_.path)});
  }
}

void Exchange::refuse(const Error& error) {
  send_error(error);
}

void Exchange::generate() {
  const auto& frontend = session_->request().frontend;
  auto peek = peek_request(body());
  if (!peek) return send_error(peek.error());
  peek_ = *std::move(peek);
  if (client_format().path_names_model) {
    peek_.model = frontend.model;
    peek_.stream = frontend.stream;
  }
  stream_ = peek_.stream;
  record_.model = peek_.model;
  record_.stream = stream_;
  if (!take_commands()) return;
  if (client_format().keeps_responses) {
    auto turn = ResponseTurn::open(context_.responses(), store_owner(), body(), peek_,
                                   context_.worker().now());
    if (!turn) return send_error(turn.error());
    turn_ = *std::move(turn);
    if (turn_) {
      if (auto own = check_past(*turn_); !own) return send_error(own.error());
    }
  }
  if (has_rings()) {
    if (turn_ && turn_->knows_past()) expand_past();  // plugins see the whole conversation
    run_request_rings(&Exchange::dispatch);
  } else {
    dispatch();
  }
}

// ---- from the relay

void Exchange::on_attempt_failed(Error error, UpstreamHead head, std::string verbatim) {
  if (session_ == nullptr) return;
  lane_->first_token.disarm();
  drop_call();
  const auto& backend = *route_.candidates[lane_->leg].backend;
  if (backend.hosted_key && !lane_->key.empty() && error.kind == ErrorKind::unauthenticated &&
      !std::exchange(lane_->key_renewed, true)) {
    context_.hosted_keys().refused(*snapshot_->hosts, backend.name, lane_->key);
    note_attempt("key_renewed");
    return attempt();
  }
  redact(error.message, lane_->key);
  redact(verbatim, lane_->key);
  if (error.kind == ErrorKind::unauthenticated && !lane_->key.empty()) {
    // Neither the client's key nor the client's fault. In the same format the upstream's own words
    // stay, as they came; the header x-proxy-backend says whose they are.
    error.message = "Backend " + backend.name + " refused its API key: " + error.message;
  }
  if (turn_ && turn_->knows_past() && !turn_->is_expanded() && !replaced_body_ &&
      ResponseTurn::is_unknown_past(error)) {
    expand_past();  // the upstream has forgotten what we have not
    return attempt();
  }
  note_attempt(name(error.kind));
  lane_->last_failure = {std::move(head), std::move(verbatim), record_.upstream == format_};
  lane_->attempts->failed(error, context_.worker().now());
  next_attempt();
}

void Exchange::on_whole_reply(const UpstreamHead& head, std::string content_type,
                              std::string body) {
  if (session_ == nullptr) return;
  lane_->first_token.disarm();
  answered_ = since_began();
  if (head_sent_ && content_type.find("event-stream") == std::string::npos) {
    return on_attempt_failed({ErrorKind::upstream_garbled,
                              "the upstream answered a stream's request with one whole body"},
                             head, {});
  }
  const bool in_events = content_type.find("event-stream") != std::string::npos;
  if (head_sent_ || (ring_ && stream_ && (in_events || lane_->encode_context.json_array))) {
    on_stream_commit(head, content_type);
    return on_stream_end(body, /*clean=*/true);
  }
  win();
  lane_->attempts->answered();
  auto fields = reply_fields(head.fields, record_.upstream == format_);
  if (ring_ && snapshot_->rings->rings().reply() && shows_reply()) {
    run_reply_ring(head.status, std::move(fields), std::move(content_type), std::move(body));
    return;
  }
  if (ring_ && shows_reply()) chat_reply_ = body_as_chat(body);
  keep_whole(head.status, body);
  send_reply(head.status, fields, content_type, std::move(body));
}

void Exchange::begin_stream(int status, std::string_view content_type, std::string_view fields) {
  if (std::exchange(head_sent_, true)) return;
  record_.status = status;
  record_.first_byte = since_began();
  session_->begin_stream(status, content_type, fields);
}

void Exchange::on_stream_commit(const UpstreamHead& head, std::string_view content_type) {
  if (session_ == nullptr) return;
  lane_->first_token.disarm();
  win();
  if (lane_->attempts) lane_->attempts->answered();
  first_output_ = since_began();
  auto fields = reply_fields(head.fields, record_.upstream == format_);
  open_ring_stream();
  if (ring_stream_ && ring_stream_->holds_all()) {
    pending_reply_ = PendingReply{head.status, std::move(fields), std::string(content_type), {}};
  } else {
    begin_stream(head.status, content_type, fields);
  }
}

bool Exchange::write_stream(std::string& bytes) {
  if (session_ == nullptr || stream_over_) {
    bytes.clear();
    return true;
  }
  if (ring_stream_) {
    ring_stream_->add(bytes);
    if (ring_stream_->refusal()) {
      refuse_stream(*ring_stream_->refusal());
      bytes.clear();
    } else if (auto refused = ring_charge_.grow_to(ring_stream_->kept())) {
      refuse_stream(*refused);
      bytes.clear();
    }
    tell_chunk();
    if (stream_over_) bytes.clear();
    if (bytes.empty()) return true;
  }
  context_.deadlines().keep_alive->arm(keep_alive_);
  keep_stream(bytes);
  return session_->write_stream(bytes);
}

void Exchange::on_stream_end(std::string& bytes, bool clean) {
  if (session_ == nullptr || stream_over_) return;
  answered_ = since_began();
  if (!clean) {
    if (lane_->attempts) lane_->attempts->broke(context_.worker().now());
    if (lane_->call) lane_->call->cancel();
  }
  if (ring_stream_) {
    ring_stream_->add(bytes);
    if (clean) ring_stream_->finish();
    if (ring_stream_->refusal()) return refuse_stream(*ring_stream_->refusal());
    if (clean && snapshot_->rings->rings().reply()) {
      keep_stream(bytes);
      if (!bytes.empty()) (void)session_->write_stream(bytes);
      return end_heard_stream();
    }
    if (!clean && pending_reply_) {  // of a held stream nobody has seen anything yet
      pending_reply_.reset();
      return refuse_stream({ErrorKind::upstream_cut, "the upstream's reply broke off"});
    }
    bytes += ring_stream_->take_held();
    if (pending_reply_) {
      const auto head = *std::exchange(pending_reply_, std::nullopt);
      begin_stream(head.status, head.content_type, head.fields);
    }
  }
  keep_alive_.disarm();
  keep_stream(bytes);
  session_->end_stream(bytes, clean);
}

void Exchange::note_error(const Error& error) {
  record_.error = std::string(name(error.kind)) + ": " + error.message;
  if (!error.detail.empty()) record_.error += " (" + error.detail + ")";
  redact(record_.error, lane_->key);
}

void Exchange::note_usage(const Usage& usage) {
  if (!usage.empty()) record_.usage = usage;
}

void Exchange::note_finish(std::string_view word) {
  record_.finish = word;
}

// Python is given a copy of a body and makes objects of it, some times its size.
std::optional<Error> Exchange::charge_copies(std::size_t bytes) {
  constexpr std::size_t kTimes = 5;
  return copies_.grow_to(kTimes * bytes);
}

// ---- to the client

std::string Exchange::reply_fields(std::string_view upstream_fields, bool same_format) const {
  std::string out = same_format ? std::string(upstream_fields) : shared_fields(upstream_fields);
  redact(out, lane_->key);
  HeadWriter writer(out);
  writer.field("x-proxy-request-id", record_.request_id);
  if (!commands_run_.empty()) writer.field("x-proxy-command", commands_run_);
  if (snapshot_->config->failure_handling.reply_headers && record_.attempts > 0) {
    writer.field("x-proxy-backend", record_.backend);
    writer.field("x-proxy-model", record_.upstream_model);
    writer.field("x-proxy-attempts", static_cast<std::uint64_t>(record_.attempts));
  }
  return out;
}

void Exchange::send_reply(int status, std::string_view fields, std::string_view content_type,
                          std::string body) {
  keep_alive_.disarm();
  record_.status = status;
  record_.first_byte = since_began();
  session_->send_whole(status, content_type, fields, std::move(body));
}

void Exchange::send_error(const Error& error, std::string_view fields, std::string verbatim,
                          int verbatim_status) {
  if (session_ == nullptr) return;
  note_error(error);
  if (head_sent_) {
    // A keep-alive has told the client 200: what is left is the stream's own error.
    keep_alive_.disarm();
    std::string event;
    client_format().encode_stream_error(error, event);
    session_->end_stream(event, /*clean=*/false);
    return;
  }
  std::string lines = error.retry_after ? without_retry_after(fields) : std::string(fields);
  HeadWriter writer(lines);
  if (fields.empty()) writer.field("x-proxy-request-id", record_.request_id);
  if (error.retry_after) {
    writer.field("retry-after",
                 static_cast<std::uint64_t>((error.retry_after->count() + 999) / 1000));
  }
  if (error.kind == ErrorKind::method_not_allowed) writer.field("allow", "GET, POST");
  if (error.kind == ErrorKind::upgrade_required) writer.field("upgrade", "HTTP/1.1");
  if (error.kind == ErrorKind::unauthenticated && record_.backend.empty()) {
    writer.field("www-authenticate", "Bearer");
  }
  if (!verbatim.empty()) {
    return send_reply(verbatim_status, lines, kJson, std::move(verbatim));
  }
  std::string body;
  if (is_admin(session_->request().frontend.operation)) {
    JsonWriter(body).begin_object().member("detail", error.message).end_object();
  } else {
    client_format().encode_error(error, body);
  }
  send_reply(client_status(client_format(), error), lines, kJson, std::move(body));
}

void Exchange::on_written() {
  if (lane_->call) lane_->call->resume();
}

void Exchange::on_reply_sent() {
  // A reply may end before its upstream does: after an error in its stream, say.
  if (lane_->call) lane_->call->cancel();
  record_.reply_bytes = session_->reply_bytes();
  finish_record();
  finish_rings();
  session_ = nullptr;
}

void Exchange::on_client_gone() {
  keep_alive_.disarm();
  ring_deadline_.disarm();
  if (side_) side_->cancel();
  only_lane_.stop();
  for (const auto& lane : racers_) lane->stop();
  if (ring_) ring_->cancel();
  admin_call_.reset();
  record_.reply_bytes = session_->reply_bytes();
  record_.status = 499;
  if (record_.error.empty()) record_.error = "cancelled: the client left";
  finish_record();
  finish_rings();
  session_ = nullptr;
}

void Exchange::on_server_stops() {
  if (session_ == nullptr) return;
  const Error error{ErrorKind::unavailable, "the proxy is stopping: send the request again"};
  if (!ring_stream_ && lane_->relay && lane_->relay->streaming()) {
    lane_->relay->on_failure(error);  // in the words of the stream that has begun
    return;
  }
  ring_deadline_.disarm();
  ring_waiting_ = false;
  if (side_) side_->cancel();
  only_lane_.stop();
  for (const auto& lane : racers_) lane->stop();
  if (ring_) ring_->cancel();
  admin_call_.reset();
  refuse_stream(error);
}

// The client has heard nothing for a while. Once the reply has begun, its relay knows the format's
// sign of life; before, a comment will do, and commits nothing.
void Exchange::on_keep_alive() {
  if (session_ == nullptr) return;
  context_.deadlines().keep_alive->arm(keep_alive_);
  if (lane_->relay && lane_->relay->committed() && !ring_stream_) {
    (void)lane_->relay->keep_alive();
    return;
  }
  if (session_->request().frontend.json_array) return;
  begin_stream(200, "text/event-stream; charset=utf-8", reply_fields({}, false));
  std::string comment = ": keep-alive\n\n";
  (void)session_->write_stream(comment);
}

void Exchange::finish_record() {
  if (std::exchange(done_, true)) return;
  record_.duration = since_began();
  context_.counters().active.fetch_sub(1, std::memory_order_relaxed);
  context_.counters().requests.fetch_add(1, std::memory_order_relaxed);
  if (snapshot_->config->logging.access_log) context_.log().append(record_);
}

}  // namespace llm_proxy
