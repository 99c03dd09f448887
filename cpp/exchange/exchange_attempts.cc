// The part of an exchange that finds who answers and asks them: the route, its lanes, and one
// attempt after the other. What comes next is Attempts' business, how it is done is here.

#include <algorithm>
#include <utility>

#include "exchange/exchange.h"
#include "exchange/proxy_members.h"
#include "exchange/ring_bodies.h"
#include "exchange/token_estimate.h"

namespace llm_proxy {

Exchange::Lane::Lane(Exchange& owner)
    : exchange(owner),
      key_late([this] {
        exchange.enter(*this).on_attempt_failed(
            {ErrorKind::upstream_timeout,
             "backend " + exchange.record_.backend + " did not lend its key in time"},
            {}, {});
      }),
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
  key_late.disarm();
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

void Exchange::dispatch() {
  auto selector = routed_by();
  if (const auto* hint = snapshot_->install_hint(selector)) {
    return send_error({ErrorKind::unknown_model, *hint});
  }
  auto& lister = context_.lister();
  if (!snapshot_->routes.needs_index(selector) || lister.knows(snapshot_)) {
    return dispatch_to(selector);
  }
  // The first who names a model alone waits for what the providers say they have.
  lister.list(snapshot_, [weak = weak_from_this(), selector](const std::vector<HostedModels>&) {
    const auto self = weak.lock();
    if (self && self->session_ != nullptr && !self->done_) self->dispatch_to(selector);
  });
}

void Exchange::dispatch_to(const std::string& selector) {
  RouteTable::Hints hints;
  hints.random = static_cast<std::uint32_t>(std::hash<std::string>()(record_.request_id));
  hints.first_request = [this] { return is_first_request(); };
  hints.identity = [this](Affinity affinity) { return identity(affinity); };
  auto route = snapshot_->routes.resolve(selector, hints);
  if (!route) return send_error(route.error());
  route_ = *std::move(route);
  note_losses();
  if (route_.has_context_limits()) {
    if (auto decoded = decode_request(); !decoded) return send_error(decoded.error());
    const auto said = peek_.for_proxy ? read_proxy_members(body()).context_tokens : std::nullopt;
    const auto tokens =
        said ? *said : estimate_tokens(replaced_request_ ? *replaced_request_ : *request_);
    if (auto fits = route_.leave_out_small_contexts(tokens); !fits) return send_error(fits.error());
  }
  begin_attempts();
}

// Embeddings and legacy completions: the same bytes to a backend of OpenAI's kind.
void Exchange::relay_plain(std::string_view path) {
  plain_path_ = path;
  if (!has_rings()) return dispatch_plain();
  if (auto peek = peek_request(body()); !peek) return send_error(peek.error());
  const auto& rings = *snapshot_->rings;
  auto view = prompts_view(body(), prompts_member(path));
  if (!view) {
    if (!pass_or_refuse(rings.guards().request(), "this input: it must be text")) return;
    cleared_ = true;
    return dispatch_plain();
  }
  ask_rings(*std::move(view), &Exchange::dispatch_plain);
}

// As the client sent it, or as plugins have left it.
void Exchange::dispatch_plain() {
  auto peek = peek_request(body());
  if (!peek) return send_error(peek.error());
  peek_ = *std::move(peek);
  const auto path = plain_path_;
  stream_ = peek_.stream;
  record_.model = peek_.model;
  record_.stream = stream_;
  if (stream_ && ring_ && snapshot_->rings->rings().reply() &&
      !pass_or_refuse(snapshot_->rings->guards().reply(),
                      "a stream of legacy completions: ask for the whole reply")) {
    return;
  }
  auto route = snapshot_->routes.resolve(peek_.model);
  if (!route) return send_error(route.error());
  std::erase_if(route->candidates, [this](const Candidate& candidate) {
    return candidate.backend->kind != Backend::Kind::http || candidate.backend->format != format_;
  });
  if (route->candidates.empty()) {
    return send_error({ErrorKind::unsupported,
                       "no backend for model '" + peek_.model + "' offers " + std::string(path)});
  }
  route_ = *std::move(route);
  peek_.include_usage = true;  // these bodies know no such option: leave them be
  begin_attempts();
}

void Exchange::begin_attempts() {
  if (!may_leave()) return;
  const auto& config = *snapshot_->config;
  const auto most = static_cast<std::size_t>(config.failure_handling.max_failover_hops) + 1;
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
    lane.attempts->add({&snapshot_->key_pool(backend), candidate.model, personal, route_.sticky});
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
  lane_->key_late.disarm();
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

}  // namespace llm_proxy
