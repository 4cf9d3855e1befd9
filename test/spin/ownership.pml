/*
 * Who forwards for one anchor: a pair of relays, a registry that fails over and loses writes, a primary that was
 * voted out and still answers for a while, messages that take any time or get lost, clocks that drift.
 *
 * One tick is a time to live. Between two ticks anything may happen in any order. Timers count down; those
 * of a relay run on its own clock, which may stand still for a tick now and then. An answer that comes later
 * than at once only shortens the time that a relay forwards, so answers are at once or lost, where nothing else
 * hangs on them.
 */
/* T: a deadline lasts so long from when its request was sent; RISES: epochs at most that a fail-over can lose */
#define DRIFT 1                 /* a relay's clock loses at most one tick in T + 1 */
#define EPS 1                   /* the data path stops at most so late */
#define DEPOSED 2               /* a primary that was voted out answers at most so long */

#if defined(FAULT_DRIFT_IGNORED)
#define HOLD (T + EPS)
#elif defined(FAULT_LATE_STOP_IGNORED)
#define HOLD (T + DRIFT)
#else
#define HOLD (T + DRIFT + EPS)  /* a claim in the registry and a promise last so long */
#endif

#if defined(FAULT_QUARANTINE_SKIPPED)
#define QUARANTINE 0
#elif defined(FAULT_DEPOSED_PRIMARY_FORGOTTEN)
#define QUARANTINE HOLD
#else
#define QUARANTINE (DEPOSED + HOLD)
#endif

#ifdef FAULT_EQUAL_EPOCHS
#define JUMP 0
#else
#define JUMP (RISES + 1)         /* above every epoch that the fail-over may have lost */
#endif

#ifdef FAULT_PROMISE_WHILE_CLAIMING
#define mayPromise(x, asked) (relay[x].epoch == 0 && relay[x].starting == 0 && relay[x].seen > 0 && relay[x].seen <= asked)
#else
#define mayPromise(x, asked) (relay[x].epoch == 0 && relay[x].starting == 0 && relay[x].seen > 0 && relay[x].seen <= asked && !relay[x].claiming)
#endif

#ifdef FAULT_CLAIM_BEFORE_PROMISE_RAN_OUT
#define mayClaim(x) (relay[x].starting == 0)
#else
#define mayClaim(x) (relay[x].starting == 0 && relay[x].promise == 0)
#endif

#ifdef FAULT_HAND_OVER_WITHOUT_FREEZE
#define AFTER_FREEZE relay[r].own
#else
#define AFTER_FREEZE 0
#endif

#ifdef FAULT_PROMISE_FORGOTTEN_AT_RESTART
#define START 0
#else
#define START HOLD
#endif

#ifdef FAULT_DEADLINE_FROM_ANSWER
#define RENEWED relay[r].answered = true
#else
#define RENEWED forwardUntil(relay[r].renewing)
#endif

typedef Registry {
  bit owner;                    /* the other of the pair is the standby */
  byte epoch;
  byte left                     /* until the claim has run out */
};

typedef Relay {
  byte epoch;                   /* of its claim; 0: it serves nothing */
  byte own;                     /* until its data path surely stops */
  byte renewing, asking;        /* what is left of T since it sent a renewal, asked for a promise; 0: it has not */
#ifdef FAULT_DEADLINE_FROM_ANSWER
  bool answered;
#endif
  byte promise;                 /* until its own promise to the other has run out */
  bool claiming; byte claimLeft;
  bool straggler;               /* a copy of a claim is still under way */
  byte starting;                /* a new incarnation neither claims nor promises for so long */
  byte seen;                    /* the highest epoch that this incarnation knows of */
  bool leaving                  /* frozen for a hand-over, the registry has not answered yet */
};

Registry reg[2];                /* 0: the first primary, 1: its replica */
Relay relay[2];
bool cut, failedOver, settled = true;
byte deposed, quarantine, reported;
bit reporter;
byte sinceSkip = T + 1, restarts;

/* Ghosts: what the properties speak of. */
byte top;                       /* highest epoch under which anybody has forwarded, and who that was */
bit topRelay;

#define other (1 - r)
#define mayRise (reg[p].epoch < (p == 0 -> 1 + RISES : 2 + 2 * RISES))
#define max(a, b) ((a) > (b) -> (a) : (b))
#define down(x) x = ((x) > 0 -> (x) - 1 : 0)
#define forwards(x) (relay[x].own > 0)
#define closed (p == 1 && (quarantine > 0 || !settled))
#define owns (reg[p].owner == r && reg[p].epoch == relay[r].epoch)

/* A data path gets a deadline. Epochs that forward only rise, and no two relays forward under one. */
inline forwardUntil(ticks) {
  if
  :: ticks > 0 && ticks + EPS > relay[r].own ->
    relay[r].own = ticks + EPS;
    assert(relay[r].epoch > top || (relay[r].epoch == top && topRelay == r));
    top = relay[r].epoch; topRelay = r
  :: else
  fi
}

inline silence() {
  relay[r].renewing = 0; relay[r].asking = 0
}

inline lose() {
  silence(); relay[r].own = 0; relay[r].epoch = 0; relay[r].leaving = false
}

/* After a quarantine the highest report wins, under an epoch above all that may have been lost. */
inline settle(who) {
  reg[1].epoch = max(reg[1].epoch, reported) + JUMP; reg[1].owner = who; reg[1].left = HOLD;
  settled = true; reported = 0; reporter = 0
}

/* What a primary makes of a claim: the epoch, or 0. */
inline judgeClaim(answer) {
  answer = 0;
  if
  :: p == 1 && quarantine > 0
  :: p == 1 && quarantine == 0 && !settled ->
    if
    :: reported > 0 -> settle(reporter)
    :: reported == 0 && (reg[1].owner == r || reg[1].left == 0) -> settle(r)
    :: else
    fi;
    if :: settled && reg[1].owner == r -> answer = reg[1].epoch :: else fi
  :: !closed && reg[p].owner == r -> reg[p].left = HOLD; answer = reg[p].epoch
  :: !closed && reg[p].owner != r && reg[p].left == 0 && mayRise ->
    reg[p].epoch++; reg[p].owner = r; reg[p].left = HOLD; answer = reg[p].epoch
  :: else
  fi
}

inline tick(w) {
  down(relay[w].own); down(relay[w].renewing); down(relay[w].asking); down(relay[w].claimLeft); down(relay[w].promise); down(relay[w].starting)
}

active proctype world() {
  bit r, p; byte answer;
  d_step {
    reg[0].owner = 0; reg[0].epoch = 1; reg[0].left = HOLD; 
    relay[0].epoch = 1; relay[0].seen = 1; relay[1].seen = 1; forwardUntil(T)
  }
  do
  :: atomic { /* time */
      if
      :: d_step { tick(0); tick(1); if :: sinceSkip <= T -> sinceSkip++ :: else fi }
      :: d_step { sinceSkip > T -> tick(0); sinceSkip = 0 }
      :: d_step { sinceSkip > T -> tick(1); sinceSkip = 0 }
      fi;
      d_step { down(reg[0].left); down(reg[1].left); down(quarantine);
        if
        :: deposed > 0 -> deposed--; if :: deposed == 0 -> reg[0].owner = 0; reg[0].epoch = 0; reg[0].left = 0 :: else fi
        :: else
        fi }
    }
  :: d_step { /* from here on nothing reaches the replica */
      FAIL_OVER && !cut -> cut = true; reg[1].owner = reg[0].owner; reg[1].epoch = reg[0].epoch; reg[1].left = reg[0].left
    }
  :: d_step { /* ownership.fail-over: every script sees that another server than this wrote the data */
      FAIL_OVER && cut && !failedOver -> failedOver = true; deposed = DEPOSED; quarantine = QUARANTINE; settled = false
    }
  :: atomic { /* something at one relay, or at a primary on its behalf */
      if :: r = 0 :: r = 1 fi;
      if :: !failedOver || deposed > 0 -> p = 0 :: failedOver -> p = 1 fi;
      if
      /* ownership.renew.send: an owner that is not giving the anchor away */
      :: d_step { relay[r].epoch > 0 && relay[r].renewing == 0 && !relay[r].leaving -> relay[r].renewing = T }
      /* ownership.renew: the registry holds the claim of this epoch; ownership.renewed: the deadline counts from when
         it was asked to */
      :: d_step { relay[r].renewing > 0 && owns && !closed -> reg[p].left = HOLD; RENEWED; relay[r].renewing = 0 }
#ifdef FAULT_DEADLINE_FROM_ANSWER
      :: d_step { relay[r].answered && relay[r].epoch > 0 -> forwardUntil(T); relay[r].answered = false }
#endif
      /* ownership.lost: it names another epoch */
      :: d_step { relay[r].renewing > 0 && !owns && !closed -> lose() }
      /* ownership.report: in quarantine a renewal only says what this owner holds; ownership.settle: after it, the
         highest report wins */
      :: d_step { relay[r].renewing > 0 && p == 1 && !settled ->
        if :: relay[r].epoch > reported -> reported = relay[r].epoch; reporter = r :: else fi;
        if :: quarantine == 0 -> settle(reporter) :: else fi;
        relay[r].renewing = 0 }

      /* ownership.read: what the registry says, unless it may have lost something */
      :: d_step { relay[r].epoch == 0 && !closed && reg[p].epoch > relay[r].seen -> relay[r].seen = reg[p].epoch }

      /* ownership.promise.ask */
      :: d_step { relay[r].epoch > 0 && relay[r].asking == 0 && !relay[r].leaving -> relay[r].asking = T }
      /* ownership.promise: until it has run out, the standby neither claims nor forwards; the deadline counts from
         when it was asked for */
      :: d_step { relay[r].asking > 0 && mayPromise(other, relay[r].epoch) ->
        relay[other].promise = HOLD; relay[other].seen = relay[r].epoch; forwardUntil(relay[r].asking); relay[r].asking = 0 }

      /* ownership.claim.send: only when the last promise has run out, and again until it is answered */
      :: d_step { relay[r].epoch == 0 && !relay[r].claiming && mayClaim(r) ->
        relay[r].claiming = true; relay[r].claimLeft = T; relay[r].straggler = true }
      /* ownership.claim: run out, or this relay's already */
      :: d_step { relay[r].claiming ->
        judgeClaim(answer);
        if
        /* ownership.owned */
        :: answer > 0 -> relay[r].epoch = answer; relay[r].seen = answer; forwardUntil(relay[r].claimLeft)
        :: else
        fi;
        relay[r].claiming = false; relay[r].claimLeft = 0 }
      /* a copy of a claim arrives late, or its answer is lost */
      :: d_step { relay[r].straggler -> judgeClaim(answer); relay[r].straggler = false }

      /* ownership.hand-over.freeze: nothing is forwarded any more before the registry is asked */
      :: d_step { relay[r].epoch > 0 && relay[r].own > 0 && !relay[r].leaving ->
        relay[r].leaving = true; silence(); relay[r].own = AFTER_FREEZE }
      /* ownership.hand-over: the registry names the other */
      :: atomic { d_step { relay[r].leaving && owns && !closed && mayRise ->
          reg[p].epoch++; reg[p].owner = other; reg[p].left = HOLD; answer = reg[p].epoch;
          relay[r].epoch = 0; relay[r].leaving = false };
        if
        /* ownership.adopt: the giver itself says so, and that it has ceased: the promise to it is void */
        :: d_step { relay[other].epoch == 0 -> relay[other].epoch = answer; relay[other].seen = answer; relay[other].promise = 0; relay[other].claiming = false; relay[other].claimLeft = 0 }
        :: true
        fi }
      :: d_step { relay[r].leaving && !owns && !closed -> lose() }
      /* ownership.hand-over.called-off: this registry has not taken it and never will */
      :: d_step { relay[r].leaving && p == 1 && quarantine > 0 -> relay[r].leaving = false }

      /* ownership.start: a new incarnation does not know what the former one promised. A pinned data path goes on
         to its deadline. */
      :: d_step { restarts < RESTARTS ->
        restarts++; silence(); relay[r].epoch = 0; relay[r].leaving = false;
        relay[r].claiming = false; relay[r].claimLeft = 0; relay[r].promise = 0;
        relay[r].starting = START; relay[r].seen = 0 }
      :: else
      fi;
      d_step { r = 0; p = 0; answer = 0 }
    }
  od
}

/* One forwarder at any instant. */
active proctype forwarders() { atomic { forwards(0) && forwards(1) -> assert(false) } }

/* What must be possible, or the model would say nothing. */
#ifdef REACH_TAKEOVER
active proctype reach() { atomic { !failedOver && restarts == 0 && forwards(1) -> assert(false) } }
#endif
