#include "upstream/param_edits.h"

#include <charconv>
#include <optional>

#include "formats/format.h"
#include "formats/shared/reasoning.h"
#include "json/merge.h"

namespace llm_proxy {
namespace {

void set(const CallParams& params, Request& request) {
  request.sampling.temperature = params.temperature;
  request.sampling.top_p = params.top_p;
  request.sampling.top_k = params.top_k;
  request.verbosity = Text::plain(params.verbosity);
  if (!params.reasoning_effort.empty()) {
    request.reasoning.effort = effort_named(Text::plain(params.reasoning_effort));
  }
  if (const auto& budget = params.thinking_budget; !budget.empty()) {
    std::from_chars(budget.data(), budget.data() + budget.size(),
                    request.reasoning.budget_tokens.emplace());
  }
}

}  // namespace

Result<std::string> with_params(const CallParams& params, const Backend& backend,
                                std::string_view model, std::string_view body) {
  const auto& format = format_of(backend.format);
  const auto decoded = format.decode_request(body, model, false);
  if (!decoded) return decoded.error();
  Request request;
  request.format = backend.format;
  request.model = Text::plain(model);
  request.sampling.max_output_tokens = decoded->sampling.max_output_tokens;
  request.messages.emplace_back().parts.push_back(TextPart{Text::plain("x")});
  const auto encoded = [&]() -> Result<std::string> {
    Translation translation;
    translation.upstream_model = model;
    translation.quirks = backend.quirks;
    std::string out;
    if (auto written = format.encode_request(request, translation, out); !written) {
      return std::move(written).error();
    }
    return out;
  };
  const auto before = encoded();
  if (!before) return before;
  set(params, request);
  const auto after = encoded();
  if (!after) return after;
  return merged(body, difference(*before, *after));
}

}  // namespace llm_proxy
