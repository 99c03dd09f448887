#include "routing/command_table.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "base/ascii.h"
#include "base/nearest.h"

namespace llm_proxy {
namespace {

using Answer = Result<std::string>;

Error wrong(std::string message) {
  return {ErrorKind::malformed_request, std::move(message)};
}

std::string in_quotes(std::string_view text) {
  return "'" + std::string(text.substr(0, 80)) + "'";
}

std::string or_none(std::string_view text) {
  return text.empty() ? "not set" : std::string(text);
}

// "by openai, then anthropic"
std::string served_by(const Route& route) {
  std::string out;
  for (const auto& candidate : route.candidates) {
    const auto& name = candidate.backend->name;
    if (out.find(name) != std::string::npos) continue;
    out += (out.empty() ? "" : ", then ") + name;
  }
  return out;
}

Result<void> changeable(const CommandContext& context) {
  if (context.routes.static_route().empty()) return {};
  return wrong("the proxy's static_route sends every request to " + context.routes.static_route() +
               "; model and backend cannot be changed");
}

Answer set_backend(std::string_view name, const CommandContext& context, SessionState& state) {
  if (auto free = changeable(context); !free) return std::move(free).error();
  if (name.empty()) {
    state.backend.clear();
    return std::string("The backend is the model's own again.");
  }
  if (context.routes.named(name) == nullptr) {
    return context.routes.no_backend(name);
  }
  if (auto allowed = context.routes.permitted(std::string(name) + ":m"); !allowed) {
    return std::move(allowed).error();
  }
  state.backend = name;
  // A model of another backend would win over it.
  if (!state.model.empty() && context.routes.names_backend(state.model)) state.model.clear();
  return "The backend of this session is now " + state.backend + ".";
}

// A selector that resolves; says who serves it.
Answer checked(std::string_view selector, const CommandContext& context,
               const SessionState& state) {
  SessionState probe;
  probe.backend = state.backend;
  probe.routes = state.routes;
  probe.model = selector;
  const auto route = context.routes.resolve(session_selector(probe, context.model, context.routes));
  if (!route) return route.error();
  // "b:m" where no backend is called b, and nobody lists such a model: most
  // likely misspelt.
  const auto colon = selector.find(':');
  const auto known = [&](const Candidate& candidate) {
    return candidate.backend->kind == Backend::Kind::echo ||
           context.routes.has(*candidate.backend, candidate.model);
  };
  if (probe.backend.empty() && is_plain_selector(selector) && colon != selector.npos &&
      colon < selector.find('/') && context.routes.prefix(selector) == nullptr &&
      !state.routes.contains(selector) &&
      std::none_of(route->candidates.begin(), route->candidates.end(), known) &&
      route->candidates.front().model == selector) {
    return context.routes.no_backend(selector.substr(0, colon));
  }
  auto out = served_by(*route);
  const auto models = context.routes.model_names();
  const std::vector<std::string_view> names(models.begin(), models.end());
  if (is_plain_selector(selector) && context.routes.prefix(selector) == nullptr &&
      !state.routes.contains(selector) &&
      std::find(names.begin(), names.end(), selector) == names.end() &&
      std::none_of(route->candidates.begin(), route->candidates.end(), known)) {
    if (const auto meant = nearest(selector, names); !meant.empty()) {
      out += ". No backend lists that model; the nearest is " + std::string(meant);
    }
  }
  return out;
}

Answer set_model(std::string_view selector, const CommandContext& context, SessionState& state) {
  if (auto free = changeable(context); !free) return std::move(free).error();
  if (selector.empty()) {
    state.model.clear();
    return std::string("The model is the client's own again.");
  }
  auto by = checked(selector, context, state);
  if (!by) return by;
  state.model = selector;
  if (context.routes.names_backend(selector)) state.backend.clear();
  return "The model of this session is now " + state.model + ", served by " + *by + ".";
}

Answer set_oneoff(std::string_view selector, const CommandContext& context, SessionState& state) {
  if (auto free = changeable(context); !free) return std::move(free).error();
  if (selector.empty()) return wrong("oneoff needs a model: oneoff(backend:model)");
  auto by = checked(selector, context, state);
  if (!by) return by;
  state.oneoff = selector;
  return "The next request goes to " + state.oneoff + ", served by " + *by + ".";
}

Answer set_call_param(std::string_view name, std::string_view value, SessionState& state) {
  if (name.starts_with("reasoning") && value == "maximum") value = "max";
  if (auto set = set_param(state.params, name, value); !set) {
    return wrong(set.error().message);
  }
  return std::string(name) + " is now " + std::string(value) + ".";
}

// ---- What set() and unset() know.

struct Setting {
  std::string_view name;
  Answer (*set)(std::string_view value, const CommandContext& context, SessionState& state);
};

constexpr std::array kSettings{
    Setting{"backend", set_backend},
    Setting{"model", set_model},
    Setting{"command-prefix",
            [](std::string_view value, const CommandContext&, SessionState& state) -> Answer {
              if (!value.empty() && !is_command_prefix(value)) {
                return wrong(
                    in_quotes(value) +
                    " is not 2 to 10 signs such as !/ (no blanks, letters, quotes, brackets)");
              }
              state.prefix = value;
              return "Commands of this session begin with " + state.prefix + " from now on.";
            }},
    Setting{"project",
            [](std::string_view value, const CommandContext&, SessionState& state) -> Answer {
              state.project = value.substr(0, 200);
              return "project is " + or_none(state.project) + ".";
            }},
    Setting{"project-dir",
            [](std::string_view value, const CommandContext&, SessionState& state) -> Answer {
              state.project_dir = value.substr(0, 1000);
              return "project-dir is " + or_none(state.project_dir) + ".";
            }},
};

std::string setting_names() {
  std::string out;
  for (const auto& row : kSettings) out.append(row.name).append(", ");
  return out + param_names();
}

Answer run_setting(std::string_view name, std::string_view value, const CommandContext& context,
                   SessionState& state) {
  for (const auto& row : kSettings) {
    if (row.name == name) return row.set(value, context, state);
  }
  if (find_param(state.params, name) != nullptr) return set_call_param(name, value, state);
  return wrong("there is no setting " + in_quotes(name) + "; there are: " + setting_names());
}

// ---- The commands.

struct Row {
  std::string_view name;
  std::string_view usage;
  std::string_view help;
  Answer (*run)(const Command& command, const CommandContext& context, SessionState& state);
};

Answer run_set(const Command& command, const CommandContext& context, SessionState& state) {
  if (command.args.empty()) return wrong("set needs name=value; names: " + setting_names());
  std::set<std::string_view> seen;
  std::string out;
  for (const auto& [name, value] : command.args) {
    if (name.empty()) return wrong("set needs name=value, not " + in_quotes(value));
    if (value.empty()) return wrong("set needs a value for " + in_quotes(name));
    if (!seen.insert(name).second) return wrong(in_quotes(name) + " is set twice");
    auto line = run_setting(name, value, context, state);
    if (!line) return line;
    if (!out.empty()) out += '\n';
    out += *line;
  }
  return out;
}

Answer run_unset(const Command& command, const CommandContext& context, SessionState& state) {
  if (command.args.empty()) return wrong("unset needs names: " + setting_names() + ", oneoff");
  std::string out;
  for (const auto& [key, value] : command.args) {
    const auto& name = key.empty() ? value : key;
    if (name == "oneoff") {
      state.oneoff.clear();
    } else if (const auto* param = find_param(state.params, name)) {
      const_cast<std::string*>(param)->clear();
    } else if (auto line = run_setting(name, "", context, state); !line) {
      return line;
    }
    if (!out.empty()) out += '\n';
    out += name + " is not set any more.";
  }
  return out;
}

Answer run_model(const Command& command, const CommandContext& context, SessionState& state) {
  return set_model(command.value("name"), context, state);
}
Answer run_backend(const Command& command, const CommandContext& context, SessionState& state) {
  return set_backend(command.value("name"), context, state);
}
Answer run_oneoff(const Command& command, const CommandContext& context, SessionState& state) {
  return set_oneoff(command.value("name"), context, state);
}
Answer run_temperature(const Command& command, const CommandContext&, SessionState& state) {
  return set_call_param("temperature", command.value("value"), state);
}
Answer run_reasoning(const Command& command, const CommandContext&, SessionState& state) {
  return set_call_param("reasoning_effort", command.value("effort"), state);
}
Answer run_effort(const Command& command, const CommandContext&, SessionState& state) {
  const auto& name = command.name;
  const bool level = name == "max" || name == "high" || name == "medium" || name == "low";
  return set_call_param("reasoning_effort", level ? std::string_view(name) : "none", state);
}
Answer run_project(const Command& command, const CommandContext& context, SessionState& state) {
  return run_setting("project", command.value("name"), context, state);
}
Answer run_pwd(const Command&, const CommandContext&, SessionState& state) {
  return "project-dir is " + or_none(state.project_dir) + ".";
}

Answer run_models(const Command& command, const CommandContext& context, SessionState&) {
  constexpr std::size_t kMaxLines = 200;
  const auto part = lower_case(command.value("text"));
  std::string out;
  std::size_t found = 0;
  for (const auto& model : context.routes.model_names()) {
    if (lower_case(model).find(part) == std::string::npos || ++found > kMaxLines) continue;
    if (!out.empty()) out += '\n';
    out += model;
  }
  if (found > kMaxLines) {
    out += "\nand " + std::to_string(found - kMaxLines) + " more: " + std::string(context.prefix) +
           "models(text) lists those whose names hold the text.";
  }
  if (found == 0 && !part.empty()) return "No model's name holds " + in_quotes(part) + ".";
  if (found == 0) return std::string("No backend says which models it has.");
  return out;
}

Answer run_status(const Command&, const CommandContext& context, SessionState& state) {
  const auto selector = session_selector(state, context.model, context.routes);
  const auto route = context.routes.resolve(selector);
  std::string out = "model: " + or_none(selector) +
                    (route ? ", served by " + served_by(*route) : ": " + route.error().message);
  out += "\nset in this session: backend " + or_none(state.backend) + ", model " +
         or_none(state.model) + ", oneoff " + or_none(state.oneoff);
  out += "\nparameters: " + or_none(describe(state.params));
  if (!state.project.empty() || !state.project_dir.empty()) {
    out += "\nproject: " + or_none(state.project) + ", " + or_none(state.project_dir);
  }
  if (!state.prefix.empty()) out += "\ncommands begin with " + state.prefix;
  out += "\nbackends: " + context.routes.names();
  for (const auto& [name, chain] : state.routes) {
    out += "\nfailover route " + name + ": " + std::to_string(chain.elements.size()) + " elements";
  }
  return out;
}

// ---- Failover routes of the session.

Result<SessionState::Chain*> route_of(const Command& command, SessionState& state) {
  const auto name = command.value("name");
  const auto found = state.routes.find(name);
  if (found != state.routes.end()) return &found->second;
  std::string names;
  for (const auto& [known, chain] : state.routes) names += (names.empty() ? "" : ", ") + known;
  return wrong("no failover route is called " + in_quotes(name) +
               "; there are: " + (names.empty() ? "none" : names));
}

Answer shown(std::string_view name, const SessionState::Chain& chain) {
  std::string out = std::string(name) + " (" + chain.policy + "): ";
  for (std::size_t i = 0; i < chain.elements.size(); ++i) {
    if (i > 0) out += ", ";
    out += chain.elements[i];
  }
  return out + (chain.elements.empty() ? "empty" : "");
}

Answer run_create_route(const Command& command, const CommandContext&, SessionState& state) {
  const std::string name(command.value("name"));
  std::string policy = "m";
  for (const auto& [key, value] : command.args) {
    if (key == "policy") policy = value;
  }
  constexpr std::array<std::string_view, 4> kPolicies{"k", "m", "km", "mk"};
  if (name.empty() || name.size() > 100) return wrong("create-failover-route needs a name");
  if (std::find(kPolicies.begin(), kPolicies.end(), policy) == kPolicies.end()) {
    return wrong("policy must be k, m, km or mk, not " + in_quotes(policy));
  }
  if (state.routes.size() == SessionState::kMaxRoutes)
    return wrong("a session has 16 routes at most");
  state.routes[name] = {policy, {}};
  return "The failover route " + name + " is there; name it as the model to use it.";
}

Answer run_delete_route(const Command& command, const CommandContext&, SessionState& state) {
  auto chain = route_of(command, state);
  if (!chain) return std::move(chain).error();
  state.routes.erase(state.routes.find(command.value("name")));
  return "The failover route " + std::string(command.value("name")) + " is gone.";
}

Answer run_list_routes(const Command&, const CommandContext&, SessionState& state) {
  std::string out;
  for (const auto& [name, chain] : state.routes) {
    if (!out.empty()) out += '\n';
    out += *shown(name, chain);
  }
  return out.empty() ? "There are no failover routes in this session." : out;
}

// The element may be named or stand behind the route's name.
Answer add_element(const Command& command, const CommandContext& context, SessionState& state,
                   bool in_front) {
  auto found = route_of(command, state);
  if (!found) return std::move(found).error();
  auto& chain = **found;
  std::vector<std::string> elements;
  bool first_bare = command.args.empty() || command.args.front().first.empty();
  for (const auto& [key, value] : command.args) {
    if (key == "name") continue;
    if (key.empty() && std::exchange(first_bare, false)) continue;
    if (!key.empty() && key != "element") return wrong("there is no " + in_quotes(key) + " here");
    elements.push_back(value);
  }
  if (elements.empty()) return wrong("an element is missing: name, backend:model");
  if (chain.elements.size() + elements.size() > SessionState::kMaxElements) {
    return wrong("a failover route has 16 elements at most");
  }
  for (const auto& element : elements) {
    auto parsed = parse_selector(element);
    if (!parsed) return std::move(parsed).error();
    if (parsed->how != Composition::single) return wrong("an element is one backend:model");
    if (auto good = checked(element, context, SessionState()); !good) return good;
  }
  chain.elements.insert(in_front ? chain.elements.begin() : chain.elements.end(), elements.begin(),
                        elements.end());
  return shown(command.value("name"), chain);
}

Answer run_append(const Command& command, const CommandContext& context, SessionState& state) {
  return add_element(command, context, state, /*in_front=*/false);
}
Answer run_prepend(const Command& command, const CommandContext& context, SessionState& state) {
  return add_element(command, context, state, /*in_front=*/true);
}
Answer run_route_list(const Command& command, const CommandContext&, SessionState& state) {
  auto chain = route_of(command, state);
  if (!chain) return std::move(chain).error();
  return shown(command.value("name"), **chain);
}
Answer run_route_clear(const Command& command, const CommandContext&, SessionState& state) {
  auto chain = route_of(command, state);
  if (!chain) return std::move(chain).error();
  (*chain)->elements.clear();
  return shown(command.value("name"), **chain);
}

Answer run_help(const Command& command, const CommandContext& context, SessionState& state);

constexpr std::array kCommands{
    Row{"help", "help([command])", "this list, or one command", run_help},
    Row{"hello", "hello", "says that the proxy is there",
        [](const Command&, const CommandContext& context, SessionState&) -> Answer {
          return "The proxy is here. " + std::string(context.prefix) + "help lists what it knows.";
        }},
    Row{"status", "status", "who answers, and what is set in this session", run_status},
    Row{"backend", "backend(name)", "the backend for this session; empty: the model's own",
        run_backend},
    Row{"model", "model([backend:]model)", "the model for this session; empty: the client's own",
        run_model},
    Row{"models", "models([text])", "the models there are, or those whose names hold the text",
        run_models},
    Row{"oneoff", "oneoff([backend:]model)", "the model for the next request only", run_oneoff},
    Row{"set", "set(name=value, …)", "one setting or several", run_set},
    Row{"unset", "unset(name, …)", "takes settings back", run_unset},
    Row{"temperature", "temperature(0…2)", "the temperature", run_temperature},
    Row{"reasoning", "reasoning(none|low|medium|high|xhigh|max)", "how hard to think",
        run_reasoning},
    Row{"max", "max", "reasoning(max)", run_effort},
    Row{"high", "high", "reasoning(high)", run_effort},
    Row{"medium", "medium", "reasoning(medium)", run_effort},
    Row{"low", "low", "reasoning(low)", run_effort},
    Row{"no-think", "no-think", "reasoning(none)", run_effort},
    Row{"no-thinking", "no-thinking", "reasoning(none)", run_effort},
    Row{"no-reasoning", "no-reasoning", "reasoning(none)", run_effort},
    Row{"disable-thinking", "disable-thinking", "reasoning(none)", run_effort},
    Row{"disable-reasoning", "disable-reasoning", "reasoning(none)", run_effort},
    Row{"project", "project(name)", "a name for what you work on", run_project},
    Row{"pwd", "pwd", "the project's directory, as set", run_pwd},
    Row{"create-failover-route", "create-failover-route(name[, policy=k|m|km|mk])",
        "a chain of models, to be named as a model", run_create_route},
    Row{"delete-failover-route", "delete-failover-route(name)", "takes it away", run_delete_route},
    Row{"list-failover-routes", "list-failover-routes", "all of this session", run_list_routes},
    Row{"route-append", "route-append(name, backend:model, …)", "adds at its end", run_append},
    Row{"route-prepend", "route-prepend(name, backend:model, …)", "adds at its beginning",
        run_prepend},
    Row{"route-list", "route-list(name)", "its elements", run_route_list},
    Row{"route-clear", "route-clear(name)", "takes its elements away", run_route_clear},
};

const Row* find_command(std::string_view name) {
  const auto row = std::find_if(kCommands.begin(), kCommands.end(),
                                [&](const Row& known) { return known.name == name; });
  return row == kCommands.end() ? nullptr : &*row;
}

// The name itself, or the nearest; empty if none is near.
std::string_view meant_command(std::string_view name) {
  if (find_command(name) != nullptr) return name;
  std::vector<std::string_view> names;
  for (const auto& row : kCommands) names.push_back(row.name);
  return nearest(name, names);
}

std::string command_names() {
  std::string out;
  for (const auto& row : kCommands) {
    if (!out.empty()) out += ", ";
    out += row.name;
  }
  return out;
}

Error no_command(std::string_view name, const CommandContext& context) {
  const auto meant = meant_command(name);
  const auto prefix = std::string(context.prefix);
  return wrong("no command is called " + in_quotes(name) +
               (meant.empty()
                    ? "; there are: " + command_names()
                    : ": did you mean " + prefix + std::string(find_command(meant)->usage) + "? " +
                          prefix + "help lists all"));
}

Answer run_help(const Command& command, const CommandContext& context, SessionState&) {
  std::string out;
  const auto wanted = command.value("name");
  for (const auto& row : kCommands) {
    if (!wanted.empty() && row.name != wanted) continue;
    if (!out.empty()) out += '\n';
    out.append(context.prefix).append(row.usage).append(": ").append(row.help);
  }
  return out.empty() ? no_command(wanted, context) : Answer(std::move(out));
}

// What to type instead of a line that is not quite a command.
Error how_to_write(const Command& command, const CommandContext& context) {
  const auto& row = *find_command(meant_command(command.name));
  auto argument = std::string(command.value({}));
  // Of a sentence only the first word can be meant.
  if (argument.find_first_of("=,") == std::string::npos) {
    argument.resize(std::min(argument.find_first_of(" \t"), argument.size()));
  }
  auto right = std::string(context.prefix).append(row.name);
  const bool takes_any = row.usage.find('(') != row.usage.npos;
  if (takes_any && !argument.empty()) right += "(" + argument + ")";
  const auto text =
      command.garbled.size() > 80 ? command.garbled.substr(0, 80) + "…" : command.garbled;
  return wrong("'" + text + "' is not written as a command is: write " + right +
               (takes_any ? "" : " on a line of its own") + "\n" + std::string(context.prefix) +
               std::string(row.usage) + ": " + std::string(row.help));
}

}  // namespace

bool is_like_a_command(std::string_view name) {
  return !meant_command(name).empty();
}

bool asks_for_models(const std::vector<Command>& commands) {
  return std::any_of(commands.begin(), commands.end(),
                     [](const Command& command) { return command.name == "models"; });
}

Result<std::string> run_commands(const std::vector<Command>& commands,
                                 const CommandContext& context, SessionState& state) {
  auto next = state;
  std::string out;
  for (const auto& command : commands) {
    if (!command.garbled.empty()) return how_to_write(command, context);
    const auto* row = find_command(command.name);
    if (row == nullptr) return no_command(command.name, context);
    auto line = row->run(command, context, next);
    if (!line) return line;
    if (!out.empty()) out += '\n';
    out += *line;
  }
  state = std::move(next);
  return out;
}

}  // namespace llm_proxy
