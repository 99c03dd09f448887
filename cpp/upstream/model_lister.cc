#include "upstream/model_lister.h"

#include <algorithm>
#include <utility>

#include "base/bounded_buffer.h"
#include "config/endpoints.h"
#include "http/head_writer.h"
#include "server/worker_context.h"
#include "upstream/http_call.h"

namespace llm_proxy {
namespace {

constexpr std::size_t kMaxBody = 8u << 20;

}  // namespace

// Somebody who asked for the models.
struct ModelLister::Waiting {
  Waiting(ModelLister& lister, std::shared_ptr<const Snapshot> shown, Done then)
      : snapshot(std::move(shown)),
        done(std::move(then)),
        until(lister.context_.worker().now() + kPatience),
        tick([this, &lister] { lister.on_tick(*this); }) {}

  std::shared_ptr<const Snapshot> snapshot;
  Done done;
  TimePoint until;
  Deadline tick;
  bool hosts_pending = false;
  std::vector<HostedModels> hosted;  // what the hosted backends said
};

// One provider's list, under way.
class ModelLister::Fetch final : public ReplySink {
 public:
  Fetch(ModelLister& lister, std::shared_ptr<const Snapshot> snapshot, ModelCache::Due asked)
      : lister_(lister), snapshot_(std::move(snapshot)), asked_(asked) {}

  void start() {
    const auto& backend = *asked_.backend;
    const auto& format = format_of(backend.format);
    const bool own = asked_.list == ModelCache::List::own;
    const auto& target = own ? snapshot_->target(backend) : snapshot_->cloud_list(backend);
    UpstreamRequest request;
    request.method = "GET";
    request.target = &target;
    request.path = !own                          ? target.base_path
                   : backend.models_path.empty() ? list_path(format, target.base_path)
                                                 : backend.models_path;
    request.fields = target.fields;
    request.connect_timeout =
        std::min<std::chrono::milliseconds>(snapshot_->config->timeouts.connect, kPatience);
    HeadWriter writer(request.fields);
    writer.field("accept", "application/json");
    if (own && !format.version.name.empty()) {
      writer.field(format.version.name, format.version.value);
    }
    if (own && !backend.keys.empty() && !backend.auth_header.empty()) {
      writer.field(backend.auth_header, backend.auth_prefix + backend.keys.front());
    }
    call_ = std::make_shared<HttpCall>(lister_.context_, *this, std::move(request));
    call_->start();
  }
  void cancel() {
    if (call_) call_->cancel();
  }
  std::shared_ptr<HttpCall> take_call() { return std::move(call_); }

  void on_head(UpstreamHead head) override { status_ = head.status; }
  void on_bytes(std::string_view payload) override {
    if (body_.append(payload)) return;
    call_->cancel();
    failed({ErrorKind::upstream_too_large, "the list of models is too long"});
  }
  bool on_turn() override { return true; }
  void on_end() override {
    if (status_ < 200 || status_ >= 300) {
      return failed({kind_of_status(status_), "status " + std::to_string(status_)});
    }
    auto names = parse_model_names(asked_.backend->format, body_.view());
    if (!names) return failed(names.error());
    lister_.cache_.answered(asked_, *std::move(names), lister_.context_.worker().now());
    lister_.on_fetched(*this);
  }
  void on_failure(Error error) override { failed(error); }

 private:
  void failed(const Error& error) {
    lister_.cache_.failed(asked_, error, lister_.context_.worker().now());
    lister_.on_fetched(*this);
  }

  ModelLister& lister_;
  std::shared_ptr<const Snapshot> snapshot_;
  ModelCache::Due asked_;
  std::shared_ptr<HttpCall> call_;
  BoundedBuffer body_{kMaxBody};
  int status_ = 0;
};

ModelLister::ModelLister(WorkerContext& context, ModelCache& cache)
    : context_(context), cache_(cache) {}

ModelLister::~ModelLister() = default;

void ModelLister::close() {
  for (const auto& fetch : fetches_) fetch->cancel();
  fetches_.clear();
  while (!waiting_.empty()) settle(*waiting_.front());
}

bool ModelLister::knows(const std::shared_ptr<const Snapshot>& snapshot) {
  if (!snapshot->config->models.discovery) return true;
  if (known_for_.owner_before(snapshot) || snapshot.owner_before(known_for_)) return false;
  if (const auto now = context_.worker().now(); now >= look_again_) {
    look_again_ = now + snapshot->config->models.cache_seconds;
    list(snapshot, [](const std::vector<HostedModels>&) {});
  }
  return true;
}

void ModelLister::list(const std::shared_ptr<const Snapshot>& snapshot, Done done) {
  const auto& config = *snapshot->config;
  const auto waiting = std::make_shared<Waiting>(*this, snapshot, std::move(done));
  waiting_.push_back(waiting);
  ask_hosts(*snapshot, waiting);
  if (config.models.discovery) {
    const auto due =
        cache_.take_due(config.backends, config.models.cache_seconds, context_.worker().now());
    for (const auto& asked : due) {
      auto& fetch = fetches_.emplace_back(std::make_shared<Fetch>(*this, snapshot, asked));
      fetch->start();
    }
  }
  context_.worker().deadlines(kTick).arm(waiting->tick);
  settle_ready();
}

void ModelLister::ask_hosts(const Snapshot& snapshot, const std::shared_ptr<Waiting>& waiting) {
  const auto& backends = snapshot.config->backends;
  const bool any = std::any_of(backends.begin(), backends.end(), [](const Backend& backend) {
    return backend.kind == Backend::Kind::python || backend.hosted_key;
  });
  if (!any || snapshot.hosts == nullptr) return;
  waiting->hosts_pending = true;
  snapshot.hosts->models(context_.worker(), [this, weak = std::weak_ptr<Waiting>(waiting)](
                                                std::vector<HostedModels> models) {
    const auto asked = weak.lock();
    if (!asked) return;
    asked->hosted = std::move(models);
    asked->hosts_pending = false;
    settle_ready();
  });
}

void ModelLister::on_fetched(Fetch& fetch) {
  const auto place = std::find_if(
      fetches_.begin(), fetches_.end(),
      [&fetch](const std::shared_ptr<Fetch>& running) { return running.get() == &fetch; });
  if (place == fetches_.end()) return;
  context_.bury(fetch.take_call());  // it is on the stack
  context_.bury(*place);
  fetches_.erase(place);
  settle_ready();
}

void ModelLister::settle_ready() {
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    const auto waiting = *at++;
    const auto& config = *waiting->snapshot->config;
    const bool first = config.models.discovery && cache_.waits_for_first(config.backends);
    if (!waiting->hosts_pending && !first) settle(*waiting);
  }
}

void ModelLister::on_tick(Waiting& waiting) {
  if (context_.worker().now() >= waiting.until) return settle(waiting);
  context_.worker().deadlines(kTick).arm(waiting.tick);
  settle_ready();
}

void ModelLister::settle(Waiting& waiting) {
  const auto place = std::find_if(waiting_.begin(), waiting_.end(),
                                  [&](const auto& entry) { return entry.get() == &waiting; });
  if (place == waiting_.end()) return;
  const auto held = *place;
  waiting_.erase(place);
  held->tick.disarm();
  context_.bury(held);  // its tick may be on the stack
  auto models = std::move(held->hosted);
  for (const auto& backend : models) cache_.index()->put(backend.instance, backend.models);
  known_for_ = held->snapshot;
  look_again_ = context_.worker().now() + held->snapshot->config->models.cache_seconds;
  for (auto& listed : cache_.known(held->snapshot->config->backends)) {
    models.push_back(std::move(listed));
  }
  held->done(models);
}

}  // namespace llm_proxy
