// The part of an exchange that answers beside the models: stored responses, and counts of tokens.

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "base/redact.h"
#include "config/endpoints.h"
#include "exchange/exchange.h"
#include "exchange/token_estimate.h"
#include "formats/shared/seals.h"
#include "http/url.h"
#include "json/reader.h"
#include "json/writer.h"
#include "stores/conversations.h"
#include "upstream/side_call.h"

namespace llm_proxy {
namespace {

constexpr std::chrono::milliseconds kCountPatience{5'000};

enum class Stored : std::uint8_t { retrieve, remove, cancel, list };

struct StoredRow {
  std::string_view method;
  std::string_view below;  // what follows the id in the path
  Stored what;
};
constexpr std::array kStoredRows{
    StoredRow{"GET", "", Stored::retrieve},
    StoredRow{"DELETE", "", Stored::remove},
    StoredRow{"POST", "cancel", Stored::cancel},
    StoredRow{"GET", "input_items", Stored::list},
};

struct StoredPath {
  std::string id;
  std::string_view below;
};

// "resp_1/cancel", taken apart.
StoredPath taken_apart(std::string_view rest) {
  const auto slash = rest.find('/');
  return {percent_decode(rest.substr(0, slash)).value_or(std::string()),
          slash == std::string_view::npos ? std::string_view() : rest.substr(slash + 1)};
}

// Nothing: there is no such path. Null: there is, but not with this method.
std::optional<const StoredRow*> stored_row(std::string_view method, std::string_view below) {
  std::optional<const StoredRow*> found;
  for (const auto& row : kStoredRows) {
    if (row.below != below) continue;
    if (!found) found = nullptr;
    if (row.method == method || (row.method == "GET" && method == "HEAD")) found = &row;
  }
  return found;
}

// A request for an answer, made into one for a count.
std::string counted(const TokenCount& count, std::string_view body, std::string_view model) {
  std::string out;
  JsonWriter json(out);
  json.begin_object();
  const bool nested = !count.whole_request.empty();
  if (nested) {
    json.key(count.whole_request).begin_object();
    json.member("model", "models/" + std::string(model));
  }
  JsonReader reader(body);
  std::string_view key;
  reader.begin_object();
  while (reader.next_key(key)) {
    const std::string name(key);
    JsonSlice value;
    if (!reader.value(value)) break;
    if (nested || std::ranges::find(count.members, name) != count.members.end()) {
      json.key(Text::plain(name)).raw(value);
    }
  }
  if (nested) json.end_object();
  json.end_object();
  return out;
}

std::optional<std::int64_t> sum_in(const TokenCount& count, std::string_view body) {
  if (!is_json_object(body)) return {};
  const auto digits = member(body, count.sum);
  if (digits.empty() && count.zero_left_out) return 0;
  std::int64_t sum = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), sum);
  if (digits.empty() || parsed.ec != std::errc()) return {};
  return sum;
}

// What the store alone says.
Result<std::string> told_here(Stored what, const StoredResponse& response, std::string_view query) {
  switch (what) {
    case Stored::retrieve:
      if (query_value(query, "stream").value_or("") == "true") {
        return Error{ErrorKind::unsupported,
                     "a response that is stored here is not streamed again: ask without stream"};
      }
      return response.body;
    case Stored::remove: {
      std::string body;
      JsonWriter json(body);
      json.begin_object().member("id", std::string_view(response.id));
      json.member("object", "response").member_bool("deleted", true).end_object();
      return body;
    }
    case Stored::cancel:
      return Error{ErrorKind::malformed_request,
                   "only a response made with background: true can be cancelled, and '" +
                       response.id + "' is complete"};
    case Stored::list:
      break;
  }
  return encode_list(listed_items(response, /*with_output=*/false), query);
}

}  // namespace

// ---- stored responses

std::string_view Exchange::store_owner() const {
  return session_->request().owner;
}

// Whether clients that are strangers to each other ask providers under the same keys. A proxy
// without client keys, or with one and no trusted address, has a single user.
bool Exchange::shares_provider_keys() const {
  return snapshot_->client_keys.size() > 1 ||
         (!snapshot_->client_keys.empty() && !snapshot_->config->auth.trusted_ips.empty());
}

// Under a provider's key that several clients share, an id could open another client's past.
Result<void> Exchange::check_past(const ResponseTurn& turn) const {
  if (turn.is_of_another() || (turn.is_foreign() && shares_provider_keys())) {
    return turn.foreign_past();
  }
  return {};
}

// From here on the past is in the request itself.
void Exchange::expand_past() {
  expanded_body_ = turn_->expanded(body(), peek_);
  if (auto peek = peek_request(*expanded_body_)) peek_ = *std::move(peek);
  request_.reset();
}

// Before an attempt: only who keeps the past may be left to add it.
void Exchange::settle_past(const Backend& backend) {
  if (!turn_ || turn_->is_expanded() || replaced_body_ || !turn_->knows_past()) return;
  const bool raw = same_format(backend) && backend.kind == Backend::Kind::http;
  if (!raw || !turn_->leaves_past_to(backend.name)) expand_past();
}

// What the reply says of what it goes on from: the client's own word, which an upstream of another
// kind never heard.
void Exchange::restore_past_names(WireFormat upstream) {
  if (!turn_ || !turn_->is_expanded()) return;
  const bool same = format_of(upstream).keeps_responses;
  for (auto& [key, value] : request_->members) {
    if (key == "previous_response_id" && !turn_->previous_id().empty()) {
      value = same ? "null" : turn_->previous_id();
    } else if (key == "conversation" && !turn_->conversation_object().empty()) {
      value = same ? "null" : turn_->conversation_object();
    }
  }
}

void Exchange::keep_whole(int status, std::string_view body) {
  if (turn_ && status == 200) turn_->on_whole(body, past_keeper());
}

void Exchange::keep_stream(std::string_view bytes) {
  if (turn_) turn_->on_stream(bytes, past_keeper());
}

// The instance that may keep this response itself: one that was asked in the client's own words.
std::string_view Exchange::past_keeper() const {
  if (!lane_->attempts || lane_->leg >= route_.candidates.size()) return {};
  const auto& backend = *route_.candidates[lane_->leg].backend;
  const bool keeps = same_format(backend) && backend.kind == Backend::Kind::http;
  return keeps ? std::string_view(backend.name) : std::string_view();
}

void Exchange::answer_stored() {
  const auto& head = session_->request().head;
  const auto path = taken_apart(session_->request().frontend.rest);
  const auto row = stored_row(head.method, path.below);
  if (!row) return send_error({ErrorKind::not_found, nothing_at(record_.path)});
  if (!*row) {
    return send_error({ErrorKind::method_not_allowed,
                       std::string(head.method) + " is not offered at " + record_.path});
  }
  stored_ = context_.responses().find(store_owner(), path.id, context_.worker().now());
  if (!stored_ || !stored_->is_response || stored_->id != path.id) {
    Error error{ErrorKind::not_found, "no response is stored here under the id '" + path.id + "'"};
    error.code = "response_not_found";
    return send_error(error);
  }
  has_rings() ? show_stored() : ask_holder();
}

// Shows plugins the request that the stored response answered.
void Exchange::show_stored() {
  const auto model = string_member(stored_->body, "model").decode();
  std::string request;
  JsonWriter json(request);
  json.begin_object().member("model", std::string_view(model)).key("input").begin_array();
  if (!stored_->input.empty()) json.raw(stored_->input);
  json.end_array().end_object();
  expanded_body_ = std::move(request);
  peek_.model = model;
  if (!decode_request()) {
    if (!pass_or_refuse(snapshot_->rings->guards().request(), "the stored request")) return;
    cleared_ = true;
    return ask_holder();
  }
  run_request_rings(&Exchange::ask_holder);
}

// Who keeps the response as well is asked; what rings have not seen of it they see then.
void Exchange::ask_holder() {
  const auto& request = session_->request();
  const auto path = taken_apart(request.frontend.rest);
  const auto what = (*stored_row(request.head.method, path.below))->what;
  if (what == Stored::remove) context_.responses().erase(store_owner(), path.id);
  const auto& backends = snapshot_->config->backends;
  const auto holder = std::find_if(backends.begin(), backends.end(), [&](const Backend& each) {
    return !stored_->holder.empty() && each.name == stored_->holder && each.format == format_;
  });
  // A list of items is no reply that the reply ring could read: it is told from what is kept here.
  const bool unread = what == Stored::list && ring_ && snapshot_->rings->rings().reply();
  if (holder == backends.end() || unread) return answer_stored_here();

  auto target = stored_path(snapshot_->target(*holder).base_path, path.id, path.below);
  if (!target) return answer_stored_here();  // no provider that we ask makes such an id
  if (const auto query = without_credentials(request.frontend.query, request.key); !query.empty()) {
    *target += "?" + query;
  }
  const auto method = what == Stored::remove ? "DELETE" : what == Stored::cancel ? "POST" : "GET";
  ask_beside(*holder, method, *std::move(target), {}, {},
             [weak = weak_from_this()](SideCall::Answer answer) {
               const auto self = weak.lock();
               if (self && self->session_ != nullptr) self->on_stored_answer(std::move(answer));
             });
}

void Exchange::on_stored_answer(SideCall::Answer answer) {
  redact(answer.body, lane_->key);
  // Who no longer has it, or cannot be asked, has no say.
  const bool says = answer.ok() || answer.status == 400 || answer.status == 409;
  if (!says || !is_json_object(answer.body)) return answer_stored_here();
  auto fields = reply_fields({}, false);
  // All that is asked for but a deletion is told with the response itself.
  const bool is_reply = answer.ok() && session_->request().head.method != "DELETE";
  if (is_reply && ring_ && snapshot_->rings->rings().reply()) {
    return run_reply_ring(answer.status, std::move(fields), std::string(kJson),
                          std::move(answer.body));
  }
  send_reply(answer.status, fields, kJson, std::move(answer.body));
}

void Exchange::answer_stored_here() {
  const auto& request = session_->request();
  const auto path = taken_apart(request.frontend.rest);
  const auto row = stored_row(request.head.method, path.below);
  auto told = told_here((*row)->what, *stored_, request.frontend.query);
  if (!told) return send_error(told.error());
  send_reply(200, reply_fields({}, false), kJson, *std::move(told));
}

void Exchange::answer_conversation() {
  const auto& request = session_->request();
  if (body().find_first_not_of(" \t\r\n") != std::string_view::npos) {
    if (auto peek = peek_request(body()); !peek) return send_error(peek.error());
  }
  const ConversationCall call{request.head.method,    request.frontend.rest,
                              request.frontend.query, body(),
                              record_.request_id,     unix_now()};
  auto told = llm_proxy::answer_conversation(context_.responses(), store_owner(), call,
                                             context_.worker().now());
  if (!told) return send_error(told.error());
  send_reply(200, reply_fields({}, false), kJson, *std::move(told));
}

// The proxy's own answer to a command, so that the client may go on from it.
void Exchange::keep_command_answer(std::string_view answer) {
  if (!client_format().keeps_responses) return;
  auto turn = ResponseTurn::open(context_.responses(), store_owner(), body(), peek_,
                                 context_.worker().now());
  if (!turn || !*turn) return;
  (*turn)->leave_out();
  if (stream_) {
    (*turn)->on_stream(answer, {});
  } else {
    (*turn)->on_whole(answer, {});
  }
}

// Asks an upstream something whose answer is no reply of a model.
void Exchange::ask_beside(const Backend& backend, std::string_view method, std::string path,
                          std::string body, std::chrono::milliseconds patience,
                          std::function<void(SideCall::Answer)> done) {
  if (!may_leave()) return;
  const auto& target = snapshot_->target(backend);
  record_.backend = backend.name;
  record_.upstream = backend.format;
  lane_->key.clear();
  if (!backend.keys.empty()) {
    const auto pick = snapshot_->key_pool(backend).look({}, context_.worker().now());
    lane_->key = backend.keys[pick.ready ? pick.key : 0];
  }
  UpstreamRequest request;
  request.method = method;
  request.target = &target;
  request.path = std::move(path);
  request.fields = upstream_fields(backend, backend.format == format_);
  request.connect_timeout = snapshot_->config->timeouts.connect;
  request.silence = patience.count() > 0 ? patience : backend.timeout;
  side_ =
      std::make_shared<SideCall>(context_, std::move(request), std::move(body), std::move(done));
  side_->start();
}

// ---- counting

void Exchange::count_tokens() {
  auto whole = peek_request(body());
  if (!whole) return send_error(whole.error());
  if (client_format().keeps_responses) {
    const auto turn = ResponseTurn::open(context_.responses(), store_owner(), body(), *whole,
                                         context_.worker().now());
    if (!turn) return send_error(turn.error());
    if (*turn) {
      if (auto own = check_past(**turn); !own) return send_error(own.error());
    }
  }
  // The request may come one level down; what is sent on to the same format stays as it came.
  if (const auto whole = client_format().count.whole_request; !whole.empty()) {
    if (const auto inner = member(body(), whole); inner.starts_with('{')) expanded_body_ = inner;
  }
  auto peek = peek_request(body());
  if (!peek) return send_error(peek.error());
  peek_ = *std::move(peek);
  if (client_format().path_names_model) peek_.model = session_->request().frontend.model;
  if (auto decoded = decode_request(); !decoded) return send_error(decoded.error());
  if (!snapshot_->config->counting.exact) return estimate_count();
  has_rings() ? run_request_rings(&Exchange::ask_or_estimate) : ask_or_estimate();
}

void Exchange::ask_or_estimate() {
  if (!ask_for_count()) estimate_count();
}

void Exchange::estimate_count() {
  if (auto decoded = decode_request(); !decoded) return send_error(decoded.error());
  answer_count(estimate_tokens(replaced_request_ ? *replaced_request_ : *request_));
}

// Asks the provider the request would go to, if it can count; false: it cannot.
bool Exchange::ask_for_count() {
  auto peek = peek_request(body());
  if (!peek) {
    send_error(peek.error());
    return true;
  }
  peek_ = *std::move(peek);
  if (client_format().path_names_model) peek_.model = session_->request().frontend.model;
  auto route = snapshot_->routes.resolve(peek_.model);
  if (!route || route->candidates.empty()) return false;
  route_ = *std::move(route);
  route_.candidates.resize(1);
  snapshot_->localize(route_.candidates[0]);
  const auto* const backend = route_.candidates[0].backend;
  const auto& model = route_.candidates[0].model;
  const auto& format = format_of(backend->format);
  if (format.upstream.count.empty() || backend->kind != Backend::Kind::http) return false;

  std::string asked;
  if (same_format(*backend) && !format.count.whole_request.empty()) {
    asked = replaced_body_ ? counted(format.count, body(), model)
                           : std::string(session_->request().body.view());
  } else if (same_format(*backend) && !carries_seals(format_, body())) {
    UpstreamRequest raw;
    set_raw_body(raw, route_.candidates[0]);
    for (const auto piece : raw.body) asked += piece;
  } else {
    if (!encode_for(*backend, lane_->encoded_body)) return false;
    asked = counted(format.count, lane_->encoded_body, model);
  }
  record_.model = peek_.model;
  record_.upstream_model = model;
  auto path = count_path(format, snapshot_->target(*backend).base_path, model);
  if (!path) {
    send_error(path.error());
    return true;
  }
  ask_beside(*backend, "POST", *std::move(path), std::move(asked), kCountPatience,
             [weak = weak_from_this(), &format](SideCall::Answer answer) {
               const auto self = weak.lock();
               if (!self || self->session_ == nullptr) return;
               redact(answer.body, self->lane_->key);
               const auto sum = answer.ok() ? sum_in(format.count, answer.body) : std::nullopt;
               if (!sum) return self->estimate_count();
               if (format.id == self->format_) {
                 return self->send_reply(200, {}, kJson, std::move(answer.body));
               }
               self->answer_count(*sum);
             });
  return true;
}

void Exchange::answer_count(std::int64_t tokens) {
  std::string body;
  JsonWriter json(body);
  json.begin_object();
  const auto& count = client_format().count;
  if (!count.object.empty()) json.member("object", count.object);
  json.member(count.sum, tokens);
  json.end_object();
  send_reply(200, {}, kJson, std::move(body));
}

}  // namespace llm_proxy
