#include "sharing/shared_origin.h"

#include <list>
#include <optional>

#include "core/config_value.h"
#include "io/event.h"
#include "io/postbox.h"
#include "sharing/origin_hub.h"

namespace clonedev {
namespace {

// A question to the hub's thread. The answer comes by the postbox, if somebody still waits for it.
struct Question {
  Event over;
  bool answered = false;
};
template <class T>
struct Answer : Question {
  std::optional<Result<T>> value;
};

template <class T>
using Work = std::function<Task<Result<T>>(OriginMember&)>;

template <class T>
Task<> answer_there(std::shared_ptr<OriginMember> member, Work<T> work,
                    std::shared_ptr<Answer<T>> answer, std::shared_ptr<Postbox> back) {
  const std::shared_ptr<OriginShare> share = member->share;  // The member may leave meanwhile.
  auto task = work(*member);
  answer->value = co_await std::move(task);
  back->post([answer] {
    answer->answered = true;
    answer->over.set();
  });
}

class SharedOrigin final : public Origin {
 public:
  SharedOrigin(Reactor& reactor, std::shared_ptr<OriginHub> hub)
      : hub_(std::move(hub)), back_(std::make_shared<Postbox>(reactor)) {}
  ~SharedOrigin() override {
    assert(closed_ && gate_.idle() && "close() it first");
    back_->close();
  }

  Task<Result<>> open() override {
    const auto inside = gate_.enter();
    Work<OriginShare::Opened> work = [hub = hub_.get()](OriginMember& member) {
      return hub->join(member);
    };
    auto opened = co_await ask(std::move(work));
    if (!opened) co_return fail(opened.error());
    opened_ = std::move(*opened);
    co_return Result<>();
  }
  std::uint64_t size() const override { return opened_.size; }
  Task<Result<std::string>> identity() override { co_return opened_.identity; }
  Task<Result<OriginBytes>> read(std::uint64_t offset, std::span<std::byte> room) override {
    Work<OriginBytes> work = [wanted = Extent{offset, room.size()}](OriginMember& member) {
      return member.share->read(wanted, member.since);
    };
    auto brought = co_await ask(std::move(work));
    co_return brought;
  }
  Task<Result<std::vector<OriginExtent>>> extents(Extent range) override {
    Work<std::vector<OriginExtent>> work = [range](OriginMember& member) {
      return member.share->extents(range);
    };
    auto found = co_await ask(std::move(work));
    co_return found;
  }
  State state() const override {
    if (closed_) return State::closed;
    return opened_.news ? opened_.news->state() : State::connecting;
  }
  std::string last_error() const override {
    return opened_.news ? opened_.news->last_error() : std::string();
  }
  Task<> close() override {
    if (!closed_) {
      closed_ = true;
      for (Question* question : questions_) question->over.set();
      hub_->post([member = member_] { member->leave(); });
    }
    while (!gate_.idle()) co_await gate_.wait_for_change();
  }

 private:
  template <class T>
  Task<Result<T>> ask(Work<T> work) {
    const auto inside = gate_.enter();
    if (closed_) co_return fail(Errc::unavailable, "closed");
    auto answer = std::make_shared<Answer<T>>();
    questions_.push_back(answer.get());
    hub_->post([member = member_, work = std::move(work), answer, back = back_]() mutable {
      spawn(
          answer_there<T>(std::move(member), std::move(work), std::move(answer), std::move(back)));
    });
    co_await answer->over.wait();
    questions_.remove(answer.get());
    if (!answer->answered) co_return fail(Errc::unavailable, "closed");
    co_return std::move(*answer->value);
  }

  const std::shared_ptr<OriginHub> hub_;
  const std::shared_ptr<Postbox> back_;
  // The hub's thread's, but for the pointer.
  const std::shared_ptr<OriginMember> member_ = std::make_shared<OriginMember>();
  bool closed_ = false;
  OriginShare::Opened opened_;
  std::list<Question*> questions_;
  Gate gate_;
};

}  // namespace

Result<OriginFactory> shared_origin_factory(std::string_view spec, Reactor& reactor,
                                            const OriginSettings& settings) {
  if (!config::local_path(spec).empty()) return origin_factory(spec, reactor, settings);
  auto hub = OriginHub::of(spec, settings);
  if (!hub) return fail(hub.error());
  return [&reactor, hub = std::move(*hub)] { return std::make_unique<SharedOrigin>(reactor, hub); };
}

}  // namespace clonedev
