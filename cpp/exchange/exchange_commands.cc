// The part of an exchange that knows its session: in-chat commands, and what they have set.

#include <functional>
#include <utility>

#include "exchange/chat_commands.h"
#include "exchange/exchange.h"
#include "exchange/proxy_members.h"
#include "exchange/session_id.h"
#include "routing/command_table.h"

namespace llm_proxy {

// Takes the in-chat commands out of the request and does what they say, unless they are switched
// off. False: that was all, and is answered.
bool Exchange::take_commands() {
  const auto& own_prefix = snapshot_->config->command_prefix;
  const auto& settings = snapshot_->config->session;
  const bool enabled = !settings.disable_interactive_commands;
  auto& chats = context_.chats();
  const auto holds = [this](std::string_view prefix) { return may_hold_command(body(), prefix); };
  bool any = holds(own_prefix);
  if (!any && (!enabled || chats.empty())) return true;
  const auto now = context_.worker().now();
  SessionState state;
  if (enabled) {
    if (!know_session(/*however=*/any)) return true;
    state = chats.find(chat_id_, now, settings.ttl).value_or(SessionState());
    any = any || (!state.prefix.empty() && holds(state.prefix));
  }
  if (any && decode_request()) {
    auto found = take_chat_commands(*request_, body(), own_prefix, state.prefix);
    if (!found.run.empty() && !enabled) {
      if (found.alone) {
        answer_command("Commands are switched off here. Nothing was sent to the model.");
        return false;
      }
    } else if (!found.run.empty()) {
      // Who asks what models there are waits once for what the providers say.
      if (auto& lister = context_.lister();
          asks_for_models(found.run) && !lister.knows(snapshot_)) {
        lister.list(snapshot_, [weak = weak_from_this()](const std::vector<HostedModels>&) {
          const auto self = weak.lock();
          if (self && self->session_ != nullptr && !self->done_) self->generate();
        });
        return false;
      }
      for (const auto& command : found.run) {
        if (!commands_run_.empty()) commands_run_ += ", ";
        commands_run_ += command.name;
      }
      const std::string prefix = state.prefix.empty() ? own_prefix : state.prefix;
      const auto said = run_commands(found.run, {snapshot_->routes, prefix, peek_.model}, state);
      if (said) chats.put(chat_id_, chat_kind_, state, now);
      if (!said || found.alone) {
        answer_command(said ? *said : said.error().message + "\nNothing was sent to the model.");
        return false;
      }
    }
    if (found.body && !take_body(*std::move(found.body))) return false;
  }
  if (!state.empty()) chat_ = std::move(state);
  return true;
}

// The client's body is this from now on.
bool Exchange::take_body(std::string body_left) {
  request_.reset();
  without_commands_ = std::move(body_left);
  auto peek = peek_request(body());
  if (!peek) {
    send_error(peek.error());
    return false;
  }
  peek->model = std::exchange(peek_.model, {});
  peek->stream = peek_.stream;
  peek_ = *std::move(peek);
  return true;
}

// The proxy's own answer, in the client's format.
void Exchange::answer_command(const std::string& text) {
  prepare_encoding();
  const auto encoder = stream_ ? client_format().stream_encoder(lane_->encode_context)
                               : client_format().whole_encoder(lane_->encode_context);
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
  keep_command_answer(encoder->out());
  if (!stream_) return send_reply(200, fields, kJson, std::move(encoder->out()));
  begin_stream(200, lane_->encode_context.json_array ? kJson : "text/event-stream; charset=utf-8",
               fields);
  session_->end_stream(encoder->out(), /*clean=*/true);
}

// The selector that decides: what the session's commands say, else a header line of the client's,
// else the model in its body.
std::string Exchange::routed_by() {
  const auto header = session_->request().head.fields.value("x-lip-route");
  std::string model(header.empty() ? std::string_view(peek_.model) : header);
  if (header.empty() && peek_.for_proxy && is_plain_selector(model) &&
      snapshot_->routes.prefix(model) == nullptr && (!chat_ || chat_->backend.empty())) {
    if (const auto backend = read_proxy_members(body()).backend;
        snapshot_->routes.named(backend) != nullptr) {
      model = backend + ":" + model;
    }
  }
  if (!chat_) return model;
  auto out = session_selector(*chat_, model, snapshot_->routes);
  if (!chat_->oneoff.empty()) context_.chats().use_oneoff(chat_id_, chat_->oneoff);
  return out;
}

bool Exchange::is_first_request() {
  return know_session(/*however=*/true) &&
         context_.chats().first_request(chat_id_, chat_kind_, context_.worker().now(),
                                        snapshot_->config->session.ttl);
}

// A number for whose request this is.
std::uint64_t Exchange::identity(Affinity affinity) {
  const std::hash<std::string_view> hash;
  if (affinity == Affinity::session && know_session(/*however=*/true)) return hash(chat_id_);
  const auto& client = session_->request();
  return hash(client.owner.empty() ? std::string_view(client.peer)
                                   : std::string_view(client.owner));
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

}  // namespace llm_proxy
