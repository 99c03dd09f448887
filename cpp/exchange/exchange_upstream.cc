// The part of an exchange that writes one attempt's request and hands it to who answers it.

#include <algorithm>
#include <array>
#include <utility>

#include "base/ascii.h"
#include "exchange/client_fields.h"
#include "exchange/exchange.h"
#include "exchange/proxy_members.h"
#include "exchange/session_id.h"
#include "formats/body_edits.h"
#include "formats/shared/seals.h"
#include "http/head_writer.h"
#include "json/splice.h"
#include "json/writer.h"
#include "upstream/echo_backend.h"
#include "upstream/hosted_call.h"
#include "upstream/http_call.h"
#include "upstream/param_edits.h"

namespace llm_proxy {
Result<void> Exchange::decode_request() {
  if (request_) return {};
  const auto& frontend = session_->request().frontend;
  auto decoded = client_format().decode_request(body(), frontend.model, frontend.stream);
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
  const auto session = seal_session(session_->request(), *request_);
  restore_ids(request, context_.seals(), session, context_.worker().now());
  restore_seals(request, context_.seals(), session, backend.format, context_.worker().now());
  if (auto encoded = format_of(backend.format).encode_request(request, lane_->translation, out);
      !encoded) {
    return encoded;
  }
  restore_past_names(backend.format);
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

// Same format on both sides: the reply's bytes are the client's, whoever wrote the request's.
std::unique_ptr<Relay> Exchange::make_relay(const Backend& backend, bool keep_usage_chunk) {
  const bool json_array = session_->request().frontend.json_array;
  // A hosted backend has no query to be asked by: it always speaks server-sent events.
  if (same_format(backend) && !(json_array && backend.kind == Backend::Kind::python)) {
    // Plugins and races want answers.
    const bool rated =
        snapshot_->config->failure_handling.enabled || ring_ != nullptr || !racers_.empty();
    return std::make_unique<RawRelay>(*lane_, client_format(), keep_usage_chunk, json_array,
                                      plain_path_.empty(), rated);
  }
  return std::make_unique<TranslatingRelay>(
      *lane_, format_of(backend.format), client_format(), lane_->encode_context, stream_,
      context_.seals(), seal_session(session_->request(), *request_), context_.worker().now());
}

void Exchange::attempt_echo(const Backend& backend) {
  if (auto encoded = encode_for(backend, lane_->encoded_body); !encoded)
    return send_error(encoded.error());
  const auto encoder = stream_ ? client_format().stream_encoder(lane_->encode_context)
                               : client_format().whole_encoder(lane_->encode_context);
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
  // Without a key of ours the user's own login passes as it came.
  const bool own_login = lane_->key.empty() && same_format && snapshot_->client_keys.empty();
  if (same_format && backend.client_headers) {
    for (const auto& field : request.head.fields) {
      if (is_withheld(field, request.key, *snapshot_) || is_for_plugins(field) ||
          sets_header(backend, field.name) || (!own_login && names_an_account(field))) {
        continue;
      }
      writer.field(field.name, field.value);
    }
  } else if (!sets_header(backend, "accept")) {
    writer.field("accept", stream_ ? "text/event-stream" : "application/json");
  }
  if (const auto& version = format_of(backend.format).version;
      !version.name.empty() &&
      (!same_format || request.head.fields.find(version.name) == nullptr) &&
      !sets_header(backend, version.name)) {
    writer.field(version.name, version.value);
  }
  if (!lane_->key.empty()) {
    if (!backend.auth_header.empty())
      writer.field(backend.auth_header, backend.auth_prefix + lane_->key);
  } else if (own_login) {
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
  const auto& request = session_->request();
  const auto& fields = request.head.fields;
  std::vector<std::pair<std::string, std::string>> out;
  out.reserve(fields.size());
  for (const auto& field : fields) {
    if (!for_plugins && (is_for_plugins(field) || names_an_account(field))) continue;
    if (!is_withheld(field, request.key, *snapshot_) || iequals(field.name, "user-agent")) {
      out.emplace_back(lower_case(field.name), field.value);
    }
  }
  return out;
}

// A chat stream tells its usage only when asked; we always want to know.
bool Exchange::asks_for_usage() const {
  return client_format().usage_on_request && stream_ && !peek_.include_usage;
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
  if (!client_format().path_names_model && candidate.model != peek_.model) {
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
  const auto& format = format_of(backend.format);
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
    auto path = upstream_path(format, target.base_path, candidate.model, stream_);
    if (!path) return on_attempt_failed(std::move(path).error(), {}, {});
    request.path = *std::move(path);
    if (const auto query = without_credentials(frontend.query, session_->request().key);
        same && !query.empty()) {
      request.path += "?" + query;
    }
    if (!same && stream_) request.path += format.upstream.stream_query;
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
  const bool for_proxy = peek_.for_proxy && format.proxy_members;
  if (plain_path_.empty() && (for_proxy || !params.empty() || edits_body(backend.quirks))) {
    std::string body;
    for (const auto piece : request.body) body += piece;
    if (for_proxy) body = without_proxy_members(body);
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
  lane_->relay->charge_to(session_->request().body.sibling_charge());
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
  auto& host = *snapshot_->hosts;
  if (const auto* held = keys.held(host, backend.name, context_.worker().clock().unix_millis())) {
    lane_->key = *held;
    return attempt_http(backend);
  }
  context_.deadlines().first_byte->arm(lane_->key_late);
  keys.ask(host, backend.name, context_.worker(),
           [weak = weak_from_this(), lane = lane_,
            wait = ++lane_->key_wait](const Result<HostedKey>& key) {
             const auto self = weak.lock();
             if (!self || self->session_ == nullptr || lane->key_wait != wait) return;
             lane->key_late.disarm();
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
  if (const auto refused = charge_copies(body().size())) return send_error(*refused);
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
  lane_->relay->charge_to(session_->request().body.sibling_charge());
  auto call = std::make_shared<HostedUpstream>(context_, *lane_->relay);
  lane_->call = call;
  call->start(*snapshot_->hosts, std::move(hosted));
}

}  // namespace llm_proxy
