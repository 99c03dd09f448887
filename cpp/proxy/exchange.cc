#include "proxy/exchange.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/ascii.h"
#include "base/log.h"
#include "base/redact.h"
#include "http/head_writer.h"
#include "http/status_text.h"
#include "json/splice.h"
#include "json/writer.h"
#include "proxy/chat_commands.h"
#include "proxy/diagnostics.h"
#include "proxy/echo_backend.h"
#include "proxy/hosted_call.h"
#include "proxy/http_call.h"
#include "proxy/model_list.h"
#include "proxy/param_edits.h"
#include "proxy/ring_stream.h"
#include "proxy/session_id.h"
#include "proxy/token_estimate.h"
#include "proxy/web_origin.h"
#include "routing/command_table.h"
#include "translate/body_edits.h"
#include "translate/common.h"

namespace llm_proxy {
namespace {

constexpr std::string_view kJson = "application/json";

// Fields of a client's request that are not an upstream's business: its connection, its
// credentials, its browser.
constexpr std::array<std::string_view, 19> kWithheldFields{"x-lip-route",
                                                           "host",
                                                           "content-length",
                                                           "content-type",
                                                           "content-encoding",
                                                           "authorization",
                                                           "x-api-key",
                                                           "x-goog-api-key",
                                                           "api-key",
                                                           "cookie",
                                                           "user-agent",
                                                           "accept-encoding",
                                                           "expect",
                                                           "origin",
                                                           "referer",
                                                           "forwarded",
                                                           "x-real-ip",
                                                           "via",
                                                           "proxy-authorization"};

bool is_withheld(const Field& field) {
  if (field.hop_by_hop) return true;
  const auto starts = [&](std::string_view prefix) {
    return field.name.size() > prefix.size() &&
           iequals(field.name.substr(0, prefix.size()), prefix);
  };
  if (starts("x-forwarded-") || starts("sec-")) return true;
  return std::any_of(kWithheldFields.begin(), kWithheldFields.end(),
                     [&](std::string_view name) { return iequals(name, field.name); });
}

// Said to our plugins, not to an upstream.
bool is_for_plugins(const Field& field) {
  constexpr std::string_view kOurs = "x-llm-proxy-";
  return iequals(field.name, "x-expected-schema") ||
         iequals(field.name.substr(0, kOurs.size()), kOurs);
}

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

// What a client of this format may see: only Anthropic's clients know 529, and only Responses calls
// an unknown model a 400.
int client_status(WireFormat format, const Error& error) {
  const int status = error.http_status();
  if (error.kind == ErrorKind::unknown_model && status == 400 &&
      format != WireFormat::openai_responses) {
    return 404;
  }
  return status == 529 && format != WireFormat::anthropic_messages ? 503 : status;
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
      ring_deadline_([this] {
        ring_waiting_ = false;
        const auto verdict = ring_->overdue(ring_running_);
        pending_reply_ ? on_reply_verdict(verdict) : on_request_verdict(verdict);
      }) {
  const auto& request = session.request();
  record_.began = std::chrono::system_clock::time_point(
      std::chrono::milliseconds(context_.worker().clock().unix_millis()));
  record_.request_id = context_.next_request_id();
  record_.client = request.peer;
  record_.method = request.head.method;
  record_.path = request.head.path;
  record_.frontend = record_.upstream = format_;
  record_.request_bytes = request.body.size();
  context_.counters().active.fetch_add(1, std::memory_order_relaxed);
}

Exchange::~Exchange() = default;

// ---- lanes

Exchange::Lane::Lane(Exchange& owner)
    : exchange(owner),
      retry([this] { exchange.enter(*this).on_retry_tick(); }),
      first_token([this] { exchange.enter(*this).on_first_token_tick(); }) {}

void Exchange::Lane::on_attempt_failed(Error error, UpstreamHead head, std::string verbatim) {
  exchange.enter(*this).on_attempt_failed(std::move(error), std::move(head), std::move(verbatim));
}

void Exchange::Lane::on_whole_reply(const UpstreamHead& head, std::string content_type,
                                    std::string body) {
  exchange.enter(*this).on_whole_reply(head, std::move(content_type), std::move(body));
}

void Exchange::Lane::on_stream_commit(const UpstreamHead& head, std::string_view content_type) {
  exchange.enter(*this).on_stream_commit(head, content_type);
}

bool Exchange::Lane::write_stream(std::string& bytes) {
  return exchange.enter(*this).write_stream(bytes);
}

void Exchange::Lane::on_stream_end(std::string& bytes, bool clean) {
  exchange.enter(*this).on_stream_end(bytes, clean);
}

void Exchange::Lane::note_error(const Error& error) {
  exchange.enter(*this).note_error(error);
}

void Exchange::Lane::note_usage(const Usage& usage) {
  exchange.enter(*this).note_usage(usage);
}

void Exchange::Lane::note_finish(std::string_view word) {
  exchange.enter(*this).note_finish(word);
}

void Exchange::Lane::stop() {
  over = true;
  ++key_wait;
  retry.disarm();
  first_token.disarm();
  if (call) call->cancel();
  if (attempts) attempts->abandoned();
}

// What happens next happens to this lane.
Exchange& Exchange::enter(Lane& lane) {
  if (lane_ != &lane) {
    lane_ = &lane;
    if (lane.asked) note_candidate();
  }
  return *this;
}

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

// ---- from request to upstream

void Exchange::generate() {
  const auto& frontend = session_->request().frontend;
  auto peek = peek_request(body());
  if (!peek) return send_error(peek.error());
  peek_ = *std::move(peek);
  if (format_ == WireFormat::gemini_generate) {
    peek_.model = frontend.model;
    peek_.stream = frontend.stream;
  }
  stream_ = peek_.stream;
  record_.model = peek_.model;
  record_.stream = stream_;
  if (!take_commands()) return;
  if (format_ == WireFormat::openai_responses) {
    auto turn = ResponseTurn::open(context_.responses(), store_owner(), body(), peek_,
                                   context_.worker().now());
    if (!turn) return send_error(turn.error());
    turn_ = *std::move(turn);
  }
  if (snapshot_->rings && !snapshot_->rings->rings().empty()) {
    if (turn_ && turn_->knows_past()) expand_past();  // plugins see the whole conversation
    run_request_rings();
  } else {
    dispatch();
  }
}

// Takes the in-chat commands out of the request and does what they say. False: that was all, and
// is answered.
bool Exchange::take_commands() {
  const auto& settings = snapshot_->config->commands;
  auto& chats = context_.chats();
  const bool any = settings.enabled && may_hold_command(body(), settings.prefix);
  if (!any && chats.empty()) return true;
  if (!know_session(/*however=*/any)) return true;
  const auto now = context_.worker().now();
  auto state = chats.find(chat_id_, now, settings.session_ttl).value_or(SessionState());
  if (any && decode_request()) {
    auto found = take_chat_commands(*request_, body(), settings.prefix);
    for (const auto& command : found.run) {
      if (!commands_run_.empty()) commands_run_ += ", ";
      commands_run_ += command.name;
    }
    if (!found.run.empty()) {
      const auto said =
          run_commands(found.run, {snapshot_->routes, settings.prefix, peek_.model}, state);
      if (said) chats.put(chat_id_, chat_kind_, state, now);
      if (!said || found.alone) {
        answer_command(said ? *said : said.error().message + "\nNothing was sent to the model.");
        return false;
      }
    }
    if (found.body) {
      request_.reset();
      without_commands_ = *std::move(found.body);
      auto peek = peek_request(body());
      if (!peek) {
        send_error(peek.error());
        return false;
      }
      peek->model = std::exchange(peek_.model, {});
      peek->stream = peek_.stream;
      peek_ = *std::move(peek);
    }
  }
  if (!state.empty()) chat_ = std::move(state);
  return true;
}

// The proxy's own answer, in the client's format.
void Exchange::answer_command(const std::string& text) {
  prepare_encoding();
  const auto encoder = stream_ ? client_codec().stream_encoder(lane_->encode_context)
                               : client_codec().whole_encoder(lane_->encode_context);
  const auto answer = std::string(kCommandAnswer) + text;
  Usage nothing;
  nothing.input = nothing.output = 0;
  encoder->on_event(
      ReplyStart{Text::plain(record_.request_id), Text::plain(peek_.model), unix_now()});
  encoder->on_event(PartStart{});
  encoder->on_event(PartDelta{0, Text::plain(answer)});
  encoder->on_event(PartEnd{0});
  encoder->on_event(UsageUpdate{nothing});
  encoder->on_event(Finish{FinishReason::stop, {}, "stop"});
  note_finish("command");
  const auto fields = reply_fields({}, false);
  if (!stream_) return send_reply(200, fields, kJson, std::move(encoder->out()));
  begin_stream(200, lane_->encode_context.json_array ? kJson : "text/event-stream; charset=utf-8",
               fields);
  session_->end_stream(encoder->out(), /*clean=*/true);
}

// The selector that decides: what the session's commands say, else a header line of the client's,
// else the model in its body.
std::string Exchange::routed_by() {
  const auto header = session_->request().head.fields.value("x-lip-route");
  const std::string_view model = header.empty() ? std::string_view(peek_.model) : header;
  if (!chat_) return std::string(model);
  auto out = session_selector(*chat_, model, snapshot_->routes);
  if (!chat_->oneoff.empty()) context_.chats().use_oneoff(chat_id_, chat_->oneoff);
  return out;
}

bool Exchange::is_first_request() {
  return know_session(/*however=*/true) &&
         context_.chats().first_request(chat_id_, chat_kind_, context_.worker().now(),
                                        snapshot_->config->commands.session_ttl);
}

// Finds out which session this is; not `however` it takes: only if there is one it could be. A
// request that cannot be read belongs to none, and hears of it elsewhere.
bool Exchange::know_session(bool however) {
  if (!chat_id_.empty()) return true;
  const auto& client = session_->request();
  chat_kind_ = SessionStore::Kind::named;
  chat_id_ = named_session(client, client.body.view());
  if (!chat_id_.empty()) return however || !context_.chats().empty(chat_kind_);
  chat_kind_ = SessionStore::Kind::derived;
  if ((!however && context_.chats().empty(chat_kind_)) || !decode_request()) return false;
  chat_id_ = derived_session(client, *request_);
  return true;
}

void Exchange::dispatch() {
  const auto selector = routed_by();
  if (const auto* hint = snapshot_->install_hint(selector)) {
    return send_error({ErrorKind::unknown_model, *hint});
  }
  const auto random = static_cast<std::uint32_t>(std::hash<std::string>()(record_.request_id));
  const bool first = selector.find("[first") != std::string::npos && is_first_request();
  auto route = snapshot_->routes.resolve(selector, {random, first});
  if (!route) return send_error(route.error());
  route_ = *std::move(route);
  note_losses();
  if (route_.has_context_limits()) {
    if (auto decoded = decode_request(); !decoded) return send_error(decoded.error());
    const auto tokens = estimate_tokens(replaced_request_ ? *replaced_request_ : *request_);
    if (auto fits = route_.leave_out_small_contexts(tokens); !fits) return send_error(fits.error());
  }
  begin_attempts();
}

// ---- attempts: what comes next is Attempts' business, how it is done is here

void Exchange::begin_attempts() {
  const auto& config = *snapshot_->config;
  const auto most = static_cast<std::size_t>(config.failure_handling.max_hops) + 1;
  auto& candidates = route_.candidates;
  auto& race = route_.race;
  if (race.empty()) {
    if (candidates.size() > most) candidates.resize(most);
  } else if (race.size() > most) {
    race.resize(most);
  }
  if (route_.first_token.count() == 0) route_.first_token = config.timeouts.first_token;
  for (auto& candidate : candidates) snapshot_->localize(candidate);
  asked_ = since_began();
  if (stream_) context_.deadlines().keep_alive->arm(keep_alive_);
  if (race.size() > 1) return begin_race();
  add_legs(only_lane_, 0, candidates.size());
  next_attempt();
}

void Exchange::add_legs(Lane& lane, std::size_t begin, std::size_t end) {
  lane.first_leg = begin;
  lane.attempts.emplace(snapshot_->config->failure_handling, began_);
  for (auto i = begin; i < end; ++i) {
    const auto& candidate = route_.candidates[i];
    const auto& backend = *candidate.backend;
    const bool personal = backend.kind == Backend::Kind::http && backend.keys.empty();
    lane.attempts->add({&snapshot_->key_pool(backend), candidate.model, personal});
  }
}

// All lanes, each when its time has come.
void Exchange::begin_race() {
  const auto now = context_.worker().now();
  for (const auto& lane : route_.race) {
    racers_.push_back(std::make_unique<Lane>(*this));
    add_legs(*racers_.back(), lane.begin, lane.end);
    racers_.back()->retry_at = now + lane.delay;
  }
  for (const auto& lane : racers_) {
    if (session_ == nullptr || lane->over) continue;
    enter(*lane).on_retry_tick();
  }
}

// The lane has something to give: the others need not go on.
void Exchange::win() {
  for (const auto& lane : racers_) {
    if (lane.get() != lane_ && !lane->over) lane->stop();
  }
}

// The lane can do no more. True: others can, and those that waited begin at once.
bool Exchange::leave_race() {
  lane_->over = true;
  const auto alive = [](const std::unique_ptr<Lane>& lane) { return !lane->over; };
  if (std::none_of(racers_.begin(), racers_.end(), alive)) return false;
  for (const auto& lane : racers_) {
    if (!lane->over && !lane->asked) lane->retry_at = {};
  }
  return true;
}

void Exchange::next_attempt() {
  const auto step = lane_->attempts->next(context_.worker().now());
  switch (step.what) {
    case Attempts::Step::What::ask:
      lane_->leg = lane_->first_leg + step.leg;
      lane_->key_index = step.key;
      return attempt();
    case Attempts::Step::What::wait:
      lane_->retry_at = step.until;
      context_.deadlines().retry_tick->arm(lane_->retry);
      return;
    case Attempts::Step::What::give_up:
      return give_up();
  }
}

void Exchange::on_retry_tick() {
  if (context_.worker().now() < lane_->retry_at) {
    context_.deadlines().retry_tick->arm(lane_->retry);
  } else {
    next_attempt();
  }
}

void Exchange::arm_first_token() {
  const auto own = route_.candidates[lane_->leg].first_token;
  if (own.count() == 0) {
    lane_->first_token_at = {};
    if (route_.first_token.count() > 0) {
      context_.worker().deadlines(route_.first_token).arm(lane_->first_token);
    }
    return;
  }
  // A client's own limit is looked at on the tick: there is no list for every number there is.
  lane_->first_token_at = context_.worker().now() + own;
  context_.deadlines().retry_tick->arm(lane_->first_token);
}

void Exchange::on_first_token_tick() {
  if (context_.worker().now() < lane_->first_token_at) {
    context_.deadlines().retry_tick->arm(lane_->first_token);
    return;
  }
  on_attempt_failed({ErrorKind::upstream_timeout,
                     "backend " + record_.backend + " sent no output within its time limit"},
                    {}, {});
}

// One word an attempt, for the log: "openai/2:rate_limited".
void Exchange::note_attempt(std::string_view outcome) {
  if (!record_.tried.empty()) record_.tried += ',';
  record_.tried += record_.backend;
  if (snapshot_->key_pool(*route_.candidates[lane_->leg].backend).size() > 1) {
    record_.tried += '/' + std::to_string(lane_->key_index + 1);
  }
  record_.tried += ':';
  record_.tried += outcome;
}

// The failed attempt may still be on the stack.
void Exchange::drop_call() {
  ++lane_->key_wait;
  if (lane_->call) lane_->call->cancel();
  context_.bury(std::move(lane_->call));
  context_.bury(std::shared_ptr<Relay>(std::move(lane_->relay)));
  lane_->call.reset();
}

void Exchange::give_up() {
  if (!racers_.empty() && leave_race()) return;
  const auto error = lane_->attempts->refusal(context_.worker().now());
  if (!lane_->last_failure) return send_error(error, reply_fields({}, false));
  auto& last = *lane_->last_failure;
  send_error(error, reply_fields(last.head.fields, last.same_format), std::move(last.verbatim),
             last.head.status);
}

// Who is asked now, for the log and the client.
void Exchange::note_candidate() {
  const auto& candidate = route_.candidates[lane_->leg];
  record_.backend = candidate.backend->name;
  record_.upstream_model = candidate.model;
  record_.upstream = candidate.backend->format;
}

void Exchange::attempt() {
  const auto& backend = *route_.candidates[lane_->leg].backend;
  ++record_.attempts;
  lane_->asked = true;
  note_candidate();
  lane_->key.clear();
  if (!backend.keys.empty()) lane_->key = backend.keys[lane_->key_index];
  settle_past(backend);
  if (stream_) arm_first_token();
  switch (backend.kind) {
    case Backend::Kind::echo:
      return attempt_echo(backend);
    case Backend::Kind::http:
      return backend.hosted_key ? attempt_with_hosted_key(backend) : attempt_http(backend);
    case Backend::Kind::python:
      return attempt_hosted(backend);
  }
}

Result<void> Exchange::decode_request() {
  if (request_) return {};
  const auto& frontend = session_->request().frontend;
  auto decoded = client_codec().decode_request(body(), frontend.model, frontend.stream);
  if (!decoded) return std::move(decoded).error();
  request_ = *std::move(decoded);
  return {};
}

Result<void> Exchange::encode_for(const Backend& backend, std::string& out) {
  if (auto decoded = decode_request(); !decoded) return decoded;
  lane_->translation = {};
  lane_->translation.upstream_model = route_.candidates[lane_->leg].model;
  lane_->translation.quirks = backend.quirks;
  out.clear();
  auto& request = replaced_request_ ? *replaced_request_ : *request_;
  restore_ids(request, context_.seals(), seal_session(), context_.worker().now());
  restore_seals(request, context_.seals(), seal_session(), backend.format, context_.worker().now());
  if (auto encoded = codec(backend.format).encode_request(request, lane_->translation, out);
      !encoded) {
    return encoded;
  }
  restore_previous_id(backend.format);
  note_losses();
  prepare_encoding();
  return {};
}

// What the client asked for and does not get, for the log.
void Exchange::note_losses() {
  record_.losses.clear();
  const auto add = [this](std::string_view name) {
    if (!record_.losses.empty()) record_.losses += ',';
    record_.losses += name;
  };
  for (const auto& name : route_.ignored) add("?" + name);
  for (const auto& loss : lane_->translation.losses) add(loss.field);
}

// For what encodes a reply: `request_` is decoded.
void Exchange::prepare_encoding() {
  lane_->encode_context = {&*request_, &lane_->translation, unix_now(), record_.request_id,
                           session_->request().frontend.json_array};
}

// Whose sealed thinking is whose: the client's key, and its session if it names one.
std::string Exchange::seal_session() const {
  const auto& request = session_->request();
  const auto field = session_field(request.head);
  return field.empty() ? request.key : (request.key + '\0').append(field);
}

// Same format on both sides: the reply's bytes are the client's, whoever wrote the request's.
std::unique_ptr<Relay> Exchange::make_relay(const Backend& backend, bool keep_usage_chunk) {
  const bool json_array = session_->request().frontend.json_array;
  // A hosted backend has no query to be asked by: it always speaks server-sent events.
  if (same_format(backend) && !(json_array && backend.kind == Backend::Kind::python)) {
    return std::make_unique<RawRelay>(*lane_, client_codec(), keep_usage_chunk, json_array,
                                      plain_path_.empty());
  }
  return std::make_unique<TranslatingRelay>(*lane_, codec(backend.format), client_codec(),
                                            lane_->encode_context, stream_, context_.seals(),
                                            seal_session(), context_.worker().now());
}

void Exchange::attempt_echo(const Backend& backend) {
  if (auto encoded = encode_for(backend, lane_->encoded_body); !encoded)
    return send_error(encoded.error());
  const auto encoder = stream_ ? client_codec().stream_encoder(lane_->encode_context)
                               : client_codec().whole_encoder(lane_->encode_context);
  class Tap final : public EventSink {
   public:
    Tap(Exchange& exchange, EventSink& next) : exchange_(exchange), next_(next) {}
    void on_event(const Event& event) override {
      if (const auto* usage = std::get_if<UsageUpdate>(&event)) exchange_.note_usage(usage->usage);
      if (const auto* finish = std::get_if<Finish>(&event)) exchange_.note_finish(finish->word);
      next_.on_event(event);
    }

   private:
    Exchange& exchange_;
    EventSink& next_;
  } tap(*this, *encoder);
  echo_reply(replaced_request_ ? *replaced_request_ : *request_, record_.request_id, tap);
  if (stream_) {
    on_stream_commit({}, "text/event-stream; charset=utf-8");
    on_stream_end(encoder->out(), /*clean=*/true);
  } else {
    on_whole_reply({}, std::string(kJson), std::move(encoder->out()));
  }
}

std::string Exchange::upstream_fields(const Backend& backend, bool same_format) {
  const auto& request = session_->request();
  std::string out = snapshot_->target(backend).fields;
  HeadWriter writer(out);
  if (same_format && backend.client_headers) {
    for (const auto& field : request.head.fields) {
      if (!is_withheld(field) && !is_for_plugins(field)) writer.field(field.name, field.value);
    }
  } else {
    writer.field("accept", stream_ ? "text/event-stream" : "application/json");
  }
  if (backend.format == WireFormat::anthropic_messages &&
      (!same_format || request.head.fields.find("anthropic-version") == nullptr)) {
    writer.field("anthropic-version", "2023-06-01");
  }
  if (!lane_->key.empty()) {
    if (!backend.auth_header.empty())
      writer.field(backend.auth_header, backend.auth_prefix + lane_->key);
  } else if (same_format && snapshot_->client_keys.empty()) {
    // No key of ours: the user's own login goes through as it came.
    for (const std::string_view name :
         {"authorization", "x-api-key", "x-goog-api-key", "api-key"}) {
      if (const Field* field = request.head.fields.find(name))
        writer.field(field->name, field->value);
    }
  }
  return out;
}

// What plugins may see of the request's header: no credentials, nothing of the connection.
std::vector<std::pair<std::string, std::string>> Exchange::client_headers(bool for_plugins) const {
  std::vector<std::pair<std::string, std::string>> out;
  for (const auto& field : session_->request().head.fields) {
    if (!for_plugins && is_for_plugins(field)) continue;
    if (!is_withheld(field) || iequals(field.name, "user-agent")) {
      out.emplace_back(lower_case(field.name), field.value);
    }
  }
  return out;
}

// A chat stream tells its usage only when asked; we always want to know.
bool Exchange::asks_for_usage() const {
  return format_ == WireFormat::openai_chat && stream_ && !peek_.include_usage;
}

// The client's body with at most two edits: the model's name, and the wish for usage in a chat
// stream.
void Exchange::set_raw_body(UpstreamRequest& request, const Candidate& candidate) {
  const auto source = body();
  std::size_t count = 0;
  std::size_t at = 0;
  const auto copy_to = [&](std::size_t end) {
    request.body[count++] = source.substr(at, end - at);
    at = end;
  };
  // A member put first in an object needs a comma unless it is alone there.
  const auto first_member = [&](std::size_t after_brace, std::string member) {
    const auto next = source.find_first_not_of(" \t\r\n", after_brace);
    if (next != std::string_view::npos && source[next] != '}') member += ',';
    return member;
  };
  std::array<Splice, 2> edits;
  std::size_t edit_count = 0;
  if (format_ != WireFormat::gemini_generate && candidate.model != peek_.model) {
    std::string model;
    JsonWriter(model).string(candidate.model);
    if (peek_.model_end > 0) {
      edits[edit_count++] = {peek_.model_begin, peek_.model_end, std::move(model)};
    } else {
      edits[edit_count++] = {peek_.object_begin, peek_.object_begin,
                             first_member(peek_.object_begin, "\"model\":" + model)};
    }
  }
  if (asks_for_usage()) {
    const auto at = peek_.has_stream_options ? peek_.stream_options_begin + 1 : peek_.object_begin;
    edits[edit_count++] = {
        at, at,
        first_member(at, peek_.has_stream_options ? R"("include_usage":true)"
                                                  : R"("stream_options":{"include_usage":true})")};
  }
  if (edit_count == 2 && edits[1].begin < edits[0].begin) std::swap(edits[0], edits[1]);
  for (std::size_t i = 0; i < edit_count; ++i) {
    copy_to(edits[i].begin);
    lane_->splices[i] = std::move(edits[i].replacement);
    request.body[count++] = lane_->splices[i];
    at = edits[i].end;
  }
  copy_to(source.size());
}

// What is set in the request over what its body says.
CallParams Exchange::params_for(const Candidate& candidate) const {
  auto out = candidate.params ? *candidate.params : CallParams();
  if (chat_) out.override_with(chat_->params);
  return out;
}

void Exchange::attempt_http(const Backend& backend) {
  const auto& candidate = route_.candidates[lane_->leg];
  const auto& target = snapshot_->target(backend);
  const auto& frontend = session_->request().frontend;
  UpstreamRequest request;
  request.target = &target;
  request.connect_timeout = snapshot_->config->timeouts.connect;
  request.silence = backend.timeout;
  const bool same = same_format(backend);
  request.fields = upstream_fields(backend, same);
  if (!plain_path_.empty()) {
    request.path = target.base_path + std::string(plain_path_);
  } else {
    request.path = upstream_path(backend.format, target.base_path, candidate.model, stream_);
    if (const auto query = without_query_key(frontend.query, "key"); same && !query.empty()) {
      request.path += "?" + query;
    }
    if (!same && backend.format == WireFormat::gemini_generate && stream_) {
      request.path += "?alt=sse";
    }
  }
  if (!plain_path_.empty() || (same && !carries_seals(format_, body()))) {
    set_raw_body(request, candidate);
  } else {
    if (auto encoded = encode_for(backend, lane_->encoded_body); !encoded) {
      return on_attempt_failed(std::move(encoded).error(), {}, {});
    }
    request.body[0] = lane_->encoded_body;
  }
  const auto params = params_for(candidate);
  if (plain_path_.empty() && (!params.empty() || edits_body(backend.quirks))) {
    std::string body;
    for (const auto piece : request.body) body += piece;
    if (!params.empty()) {
      auto set = with_params(params, backend, candidate.model, body);
      if (!set) return on_attempt_failed(std::move(set).error(), {}, {});
      body = *std::move(set);
    }
    if (edits_body(backend.quirks)) body = edited_body(body, backend.quirks);
    lane_->encoded_body = std::move(body);
    request.body = {lane_->encoded_body};
  }
  lane_->relay = make_relay(backend, /*keep_usage_chunk=*/!same || !asks_for_usage());
  lane_->relay->hide(lane_->key);
  auto call = std::make_shared<HttpCall>(context_, *lane_->relay, std::move(request));
  lane_->call = call;
  call->start();
}

void Exchange::attempt_with_hosted_key(const Backend& backend) {
  if (snapshot_->hosts == nullptr) {
    return on_attempt_failed(
        {ErrorKind::unavailable, "backend " + backend.name + " needs Python, which is not here"},
        {}, {});
  }
  auto& keys = context_.hosted_keys();
  if (const auto* held = keys.held(backend.name, context_.worker().clock().unix_millis())) {
    lane_->key = *held;
    return attempt_http(backend);
  }
  keys.ask(*snapshot_->hosts, backend.name, context_.worker(),
           [weak = weak_from_this(), lane = lane_,
            wait = ++lane_->key_wait](const Result<HostedKey>& key) {
             const auto self = weak.lock();
             if (!self || self->session_ == nullptr || lane->key_wait != wait) return;
             self->enter(*lane);
             if (!key) return self->on_attempt_failed(key.error(), {}, {});
             lane->key = key->value;
             self->attempt_http(*self->route_.candidates[lane->leg].backend);
           });
}

void Exchange::attempt_hosted(const Backend& backend) {
  if (snapshot_->hosts == nullptr) {
    return on_attempt_failed(
        {ErrorKind::unavailable, "backend " + backend.name + " needs Python, which is not here"},
        {}, {});
  }
  const auto& request = session_->request();
  HostedRequest hosted;
  hosted.instance = backend.name;
  hosted.model = route_.candidates[lane_->leg].model;
  hosted.stream = stream_;
  hosted.request_id = record_.request_id;
  hosted.client_host = request.peer;
  hosted.headers = client_headers(/*for_plugins=*/false);
  if (same_format(backend) && !carries_seals(format_, body()) && !request.frontend.json_array) {
    hosted.body = body();
  } else if (auto encoded = encode_for(backend, hosted.body); !encoded) {
    return on_attempt_failed(std::move(encoded).error(), {}, {});
  }
  if (const auto params = params_for(route_.candidates[lane_->leg]); !params.empty()) {
    auto set = with_params(params, backend, hosted.model, hosted.body);
    if (!set) return on_attempt_failed(std::move(set).error(), {}, {});
    hosted.body = *std::move(set);
  }
  lane_->relay = make_relay(backend, /*keep_usage_chunk=*/true);
  auto call = std::make_shared<HostedUpstream>(*lane_->relay);
  lane_->call = call;
  call->start(*snapshot_->hosts, std::move(hosted), context_.worker());
}

// Embeddings and legacy completions: the same bytes to a backend of OpenAI's kind.
void Exchange::relay_plain(std::string_view path) {
  auto peek = peek_request(body());
  if (!peek) return send_error(peek.error());
  peek_ = *std::move(peek);
  stream_ = peek_.stream;
  record_.model = peek_.model;
  record_.stream = stream_;
  auto route = snapshot_->routes.resolve(peek_.model);
  if (!route) return send_error(route.error());
  std::erase_if(route->candidates, [](const Candidate& candidate) {
    return candidate.backend->kind != Backend::Kind::http ||
           candidate.backend->format != WireFormat::openai_chat;
  });
  if (route->candidates.empty()) {
    return send_error({ErrorKind::unsupported,
                       "no backend for model '" + peek_.model + "' offers " + std::string(path)});
  }
  route_ = *std::move(route);
  plain_path_ = path;
  peek_.include_usage = true;  // these bodies know no such option: leave them be
  begin_attempts();
}

// ---- from the relay

void Exchange::on_attempt_failed(Error error, UpstreamHead head, std::string verbatim) {
  if (session_ == nullptr) return;
  lane_->first_token.disarm();
  drop_call();
  const auto& backend = *route_.candidates[lane_->leg].backend;
  if (backend.hosted_key && !lane_->key.empty() && error.kind == ErrorKind::unauthenticated &&
      !std::exchange(lane_->key_renewed, true)) {
    context_.hosted_keys().refused(backend.name, lane_->key);
    note_attempt("key_renewed");
    return attempt();
  }
  redact(error.message, lane_->key);
  redact(verbatim, lane_->key);
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
  if (ring_ && snapshot_->rings->rings().reply()) {
    run_reply_ring(head.status, std::move(fields), std::move(content_type), std::move(body));
    return;
  }
  if (ring_) chat_reply_ = body_as_chat(body);
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
    }
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
      return run_stream_ring();
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
  redact(record_.error, lane_->key);
}

void Exchange::note_usage(const Usage& usage) {
  if (!usage.empty()) record_.usage = usage;
}

void Exchange::note_finish(std::string_view word) {
  record_.finish = word;
}

// ---- to the client

std::string Exchange::reply_fields(std::string_view upstream_fields, bool same_format) const {
  std::string out = same_format ? std::string(upstream_fields) : shared_fields(upstream_fields);
  redact(out, lane_->key);
  HeadWriter writer(out);
  writer.field("x-proxy-request-id", record_.request_id);
  if (!commands_run_.empty()) writer.field("x-proxy-command", commands_run_);
  if (snapshot_->config->reply_headers && record_.attempts > 0) {
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
    client_codec().encode_stream_error(error, event);
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
    client_codec().encode_error(error, body);
  }
  send_reply(client_status(format_, error), lines, kJson, std::move(body));
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
  if (snapshot_->config->access_log) context_.log().append(record_);
}

// ---- answered here

void Exchange::answer_health() {
  send_reply(200, {}, kJson, encode_health(*snapshot_, context_.stats(), context_.worker().now()));
}

void Exchange::answer_diagnostics() {
  send_reply(200, {}, kJson,
             encode_diagnostics(*snapshot_, context_.models(), context_.stats(),
                                context_.worker().now(), context_.worker().clock().unix_millis()));
}

void Exchange::reactivate() {
  if (!session_->request().admin) {
    return send_error({ErrorKind::forbidden,
                       "an admin key is needed here: set LLM_PROXY_ADMIN_KEYS (auth.admin_keys)"});
  }
  const auto wanted = percent_decode(session_->request().frontend.rest).value_or(std::string());
  for (const auto& backend : snapshot_->config->backends) {
    if (backend.name != wanted) continue;
    snapshot_->key_pool(backend).reactivate();
    std::string body;
    JsonWriter(body)
        .begin_object()
        .member("instance", backend.name)
        .member("status", "reactivated")
        .end_object();
    return send_reply(200, {}, kJson, std::move(body));
  }
  send_error({ErrorKind::not_found,
              "no backend is called '" + wanted + "': GET /v1/diagnostics lists them"});
}

void Exchange::answer_admin() {
  if (context_.admin() == nullptr) {
    return send_error({ErrorKind::not_found, "the admin API needs Python, which is not here"});
  }
  const auto& request = session_->request();
  AdminRequest asked;
  asked.method = request.head.method;
  asked.path = request.head.path;
  asked.query = without_query_key(request.head.query, "key");
  asked.body = request.body.view();
  asked.headers = client_headers();
  asked.client_host = request.peer;
  asked.admin = request.admin;
  admin_call_ = context_.admin()->call(
      std::move(asked), context_.worker(), [weak = weak_from_this()](AdminReply reply) {
        const auto self = weak.lock();
        if (!self || self->session_ == nullptr) return;
        std::string fields;
        HeadWriter writer(fields);
        for (const auto& [name, value] : reply.headers) writer.field(name, value);
        self->send_reply(reply.status, fields, reply.content_type, std::move(reply.body));
      });
}

void Exchange::answer_models() {
  with_models([](Exchange& self, const std::vector<ListedModel>& models) {
    self.send_reply(200, {}, kJson, encode_model_list(self.format_, models, self.unix_now()));
  });
}

void Exchange::answer_model() {
  with_models([](Exchange& self, const std::vector<ListedModel>& models) {
    const auto wanted =
        percent_decode(self.session_->request().frontend.rest).value_or(std::string());
    for (const auto& model : models) {
      if (model.id == wanted) {
        return self.send_reply(200, {}, kJson, encode_model(self.format_, model, self.unix_now()));
      }
    }
    self.send_error({ErrorKind::unknown_model,
                     "no model is called '" + wanted + "' here: GET /v1/models lists them"});
  });
}

// The configured models, and those that providers and hosted backends name when asked.
void Exchange::with_models(void (*use)(Exchange&, const std::vector<ListedModel>&)) {
  context_.lister().list(snapshot_,
                         [weak = weak_from_this(), use](const std::vector<HostedModels>& models) {
                           const auto self = weak.lock();
                           if (!self || self->session_ == nullptr || self->done_) return;
                           use(*self, list_models(self->snapshot_->routes, models));
                         });
}

}  // namespace llm_proxy
