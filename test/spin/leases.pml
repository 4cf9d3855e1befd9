/*
 * Who holds the resource of an anchor: two devices with one request each, one resource an anchor, one owner relay
 * with a journal, a registry that may lose what it was told last. Copies of a request arrive late and twice.
 *
 * LEASE, DEADLINE: in ticks; ANCHORS: 1 or 2; FAIL_OVER, CRASHES: how often. The relay's clock may lose a tick.
 */
#define DRIFT 1

#ifdef FAULT_COOLING_SHORTER_THAN_DEADLINE
#define COOLING DEADLINE
#else
#define COOLING (DEADLINE + DRIFT + 1)
#endif

#ifdef FAULT_FENCES_GO_ON
#define JUMP 0
#else
#define JUMP 8                  /* a new epoch: above every fence that may have been lost */
#endif

#ifdef FAULT_ACKNOWLEDGED_BEFORE_INSTALLED
#define mayAcknowledge (at[a].holder == d + 1)
#else
#define mayAcknowledge (at[a].holder == d + 1 && at[a].installed)
#endif

#ifdef FAULT_DEVICE_INDEX_TRUSTED
#define mayMove (at[a].answered[d] != GRANTED || at[a].holder == 0)
#else
#define mayMove (at[a].answered[d] == REFUSED)
#endif

#ifdef FAULT_QUARANTINE_SKIPPED
#define closed false
#else
#define closed (a == 0 && quarantined)
#endif

#ifdef FAULT_JOURNAL_AFTER_ACKNOWLEDGEMENT
#define journalled true
#else
#define journalled (journal[a].holder == memory[a].holder && journal[a].fence == memory[a].fence)
#endif

#ifdef FAULT_REST_LOST
#define unsure(lostSome) false
#else
#define unsure(lostSome) (lostSome)
#endif

#ifdef FAULT_FORMER_HOLDER_TRUSTED
#define mayBeAnothers false
#else
#define mayBeAnothers (at[0].cooling == 0)
#endif

#ifdef FAULT_PENDING_NOT_DOUBTED
#define doubt()
#else
#define doubt() at[0].installed = (at[0].holder > 0)
#endif

#define NONE 0
#define GRANTED 1
#define REFUSED 2               /* for ever, by this anchor, for this attempt */
#define ENDED 3

typedef Anchor {
  byte holder;                  /* device + 1, or 0 */
  bool installed;
  byte left, cooling, former, fence;
  byte answered[2]              /* what the attempt of each device was answered */
};

typedef Installed { byte holder, left, fence };

Anchor at[2], lost;
Installed memory[2], journal[2];
Installed missed;               /* what the owner had when a quarantine ended without its word, unless the registry had it too */
byte inTouch = DEADLINE;        /* the owner forwards for so long without hearing from the registry */
byte intent[2];                 /* anchor + 1 that a device's request asks */
byte believes[2], belief[2];    /* anchor + 1 that a device holds by what it was told, and for how long */
bool asked[4];                  /* a copy of that attempt of 2 * device + anchor may arrive at any time */
bool cut, failedOver, quarantined;
byte quarantineLeft, sinceSkip, crashes;

/* Ghosts. */
bool witness = true;            /* somebody outside the registry knows every acknowledged lease */
byte highest[2];                /* the highest fence ever given, lost ones included */
byte missedRests;               /* nobody else gets that for so long */
byte last, rests;               /* who held the resource of anchor 0 last (device + 1), and how long it must rest from then */

#define down(x) x = ((x) > 0 -> (x) - 1 : 0)
#define max(x, y) ((x) > (y) -> (x) : (y))
#define forwardsTo(who) (memory[a].holder == (who) && memory[a].left > 0 && inTouch > 0)

inline takeFence() {
  at[a].fence++;
  assert(at[a].fence > highest[a]);     /* no (resource, fence) twice */
  highest[a] = at[a].fence
}

inline end(reason) {
  takeFence();
  at[a].answered[at[a].holder - 1] = reason;
  at[a].former = at[a].holder; at[a].cooling = COOLING;
  at[a].holder = 0; at[a].installed = false; at[a].left = 0
}

/* The owner has what the registry has. */
inline follow() {
  memory[a].holder = at[a].holder; memory[a].left = at[a].left; memory[a].fence = at[a].fence
}

/* A device holds nothing any more, by its own wish or because its time is over. What is missed is not forwarded. */
inline cease(who) {
  if :: believes[who] == 1 && missed.holder != who + 1 -> last = who + 1; rests = COOLING :: else fi;
  believes[who] = 0; belief[who] = 0
}

/* leases.rest: some of the history is lost. What is cool now may have been anybody's. */
inline rest(lostSome) {
  if
  :: unsure(lostSome) && at[0].holder == 0 ->
    if :: mayBeAnothers -> at[0].former = 0 :: else fi;
    at[0].cooling = COOLING
  :: else
  fi
}

inline tick() {
  down(quarantineLeft); down(at[0].left); down(at[0].cooling); down(lost.left); down(lost.cooling);
  down(at[1].left); down(at[1].cooling); down(belief[0]); down(belief[1]); down(rests);
  down(missed.left); down(missedRests);
  if :: rests == 0 -> last = 0 :: else fi;
  if :: belief[0] == 0 -> cease(0) :: else fi;
  if :: belief[1] == 0 -> cease(1) :: else fi;
  if :: missed.left == 0 && (missed.holder == 0 || believes[missed.holder - 1] != 1) -> missed.holder = 0 :: else fi
}

inline tickRelay() {
  down(inTouch);
  down(memory[0].left); down(memory[1].left); down(journal[0].left); down(journal[1].left)
}

active proctype world() {
  bit a, d;
  at[0].former = 1;             /* long ago */
  do
  :: atomic {
      if
      :: d_step { tick(); tickRelay(); down(sinceSkip) }
      :: d_step { sinceSkip == 0 -> tick(); sinceSkip = LEASE }
      fi
    }
  :: atomic {
      if :: a = 0 :: ANCHORS > 1 -> a = 1 fi;
      if :: d = 0 :: d = 1 fi;
      if
      /* leases.intend: the device's slot decides the anchor before it is asked */
      :: d_step { intent[d] == 0 -> intent[d] = a + 1; asked[2 * d + a] = true }
      /* leases.intend.move: this anchor has refused the attempt for ever */
      :: d_step { ANCHORS > 1 && intent[d] == a + 1 && mayMove && !closed -> intent[d] = 2 - a; asked[2 * d + 1 - a] = true }
      /* leases.grant: also a copy of it that comes late; a resource that cools goes to its last holder only */
      :: d_step { asked[2 * d + a] && !closed && at[a].answered[d] == NONE ->
        if
        :: at[a].holder == 0 && (at[a].cooling == 0 || at[a].former == d + 1) ->
          assert(!forwardsTo((1 - d) + 1));     /* nothing leaves its rest while it is forwarded to another */
          if
          :: a == 0 && missed.holder > 0 && missed.holder != d + 1 ->
            assert(missedRests == 0);           /* nor before whoever still had it had time to come back */
            witness = false
          :: else
          fi;
          takeFence();
          at[a].holder = d + 1; at[a].left = LEASE; at[a].cooling = 0; at[a].former = 0;
          at[a].answered[d] = GRANTED
        :: else -> at[a].answered[d] = REFUSED
        fi }
      /* leases.install: the owner follows the stream, into its journal as well */
      :: d_step { !closed ->
        follow() }
      /* the journal: a relay without one is one that has lost it whenever it starts again */
      :: d_step { journal[a].fence != memory[a].fence || journal[a].holder != memory[a].holder ->
        journal[a].holder = memory[a].holder; journal[a].left = memory[a].left; journal[a].fence = memory[a].fence }
      /* an owner that knows all, in its journal as well, may go on */
      :: d_step { !closed && memory[a].fence == at[a].fence && journalled -> inTouch = DEADLINE }
      /* leases.activate: installed and journalled */
      :: d_step { at[a].holder > 0 && !at[a].installed && !closed && at[a].left > 0 &&
          memory[a].holder == at[a].holder && memory[a].fence == at[a].fence && journalled ->
        at[a].installed = true }
      /* leases.acknowledge */
      :: d_step { mayAcknowledge && at[a].left > 0 && believes[d] != a + 1 && !closed ->
        assert(believes[d] == 0);               /* a request never ends with two leases */
        assert(!witness || a == 1 || last == 0 || last == d + 1);     /* nothing leaves its rest but to its last holder */
        believes[d] = a + 1; belief[d] = at[a].left }
      /* leases.free: the device ceases, then tells; the word may be lost */
      :: d_step { believes[d] == a + 1 && !closed && at[a].holder == d + 1 -> cease(d); end(ENDED) }
      :: d_step { believes[d] == a + 1 -> cease(d) }
      /* leases.sweep: by the owner, and what was never installed in time */
      :: d_step { at[a].holder > 0 && at[a].left == 0 && !closed -> end((at[a].installed -> ENDED : REFUSED)) }
      /* leases.withdraw */
      :: d_step { at[a].holder > 0 && !at[a].installed && !closed -> end(REFUSED) }

      /* the relay starts again and adopts its journal */
      :: d_step { crashes < CRASHES ->
        crashes++;
        memory[0].holder = journal[0].holder; memory[0].left = journal[0].left; memory[0].fence = journal[0].fence;
        memory[1].holder = journal[1].holder; memory[1].left = journal[1].left; memory[1].fence = journal[1].fence }
      /* the relay's host is lost, its journal with it */
      :: d_step { crashes < CRASHES ->
        crashes++; witness = false; inTouch = 0;
        memory[0].holder = 0; memory[0].left = 0; memory[0].fence = 0; memory[1].holder = 0; memory[1].left = 0; memory[1].fence = 0;
        journal[0].holder = 0; journal[0].left = 0; journal[0].fence = 0; journal[1].holder = 0; journal[1].left = 0; journal[1].fence = 0 }

      /* the registry of anchor 0 fails over to a replica that was cut off before */
      :: d_step { FAIL_OVER && a == 0 && !cut -> cut = true;
        lost.holder = at[0].holder; lost.installed = at[0].installed; lost.left = at[0].left; lost.cooling = at[0].cooling;
        lost.former = at[0].former; lost.fence = at[0].fence;
        lost.answered[0] = at[0].answered[0]; lost.answered[1] = at[0].answered[1] }
      :: d_step { a == 0 && cut && !failedOver -> failedOver = true; quarantined = true; quarantineLeft = DEADLINE + DRIFT + 1;
        at[0].holder = lost.holder; at[0].installed = lost.installed; at[0].left = lost.left; at[0].cooling = lost.cooling;
        at[0].former = lost.former; at[0].fence = lost.fence + JUMP;
        at[0].answered[0] = lost.answered[0]; at[0].answered[1] = lost.answered[1];
        lost.holder = 0; lost.installed = false; lost.left = 0; lost.cooling = 0; lost.former = 0; lost.fence = 0;
        lost.answered[0] = 0; lost.answered[1] = 0 }
      /* leases.report: what the owner has is put back; what it knows to have ended is ended again. At once: it is alone */
      :: d_step { a == 0 && quarantined && memory[0].fence > 0 ->
        quarantined = false;
        if
        :: at[0].fence - JUMP <= memory[0].fence ->
          rest(at[0].fence - JUMP < memory[0].fence);
          if :: at[0].holder > 0 && at[0].holder != memory[0].holder -> end(ENDED) :: else fi;
          if
          :: memory[0].holder > 0 && memory[0].left > 0 ->
            at[0].holder = memory[0].holder; at[0].left = memory[0].left; at[0].cooling = 0; at[0].former = 0;
            at[0].installed = true; at[0].answered[memory[0].holder - 1] = GRANTED;
            takeFence()
          :: else
          fi
        :: else
        fi;
        follow() }
      /* leases.quarantine.over: nobody reported, and nobody who might have forwards any more. What is pending may be acknowledged */
      :: d_step { a == 0 && quarantined && quarantineLeft == 0 -> quarantined = false; rest(true); doubt();
        if
        :: memory[0].fence > at[0].fence - JUMP && memory[0].holder > 0 && memory[0].holder != at[0].holder ->
          missed.holder = memory[0].holder; missed.left = memory[0].left; missed.fence = memory[0].fence;
          missedRests = COOLING
        :: else
        fi }
      /* leases.bring-back: the owner of before comes back, and says what it had */
      :: d_step { a == 0 && !quarantined && missed.left > 0 && missed.holder > 0 && at[0].holder == 0 &&
          (at[0].cooling == 0 || at[0].former == 0 || at[0].former == missed.holder) && at[0].answered[missed.holder - 1] != ENDED ->
        assert(last == 0 || last == missed.holder);
        at[0].holder = missed.holder; at[0].left = missed.left; at[0].cooling = 0; at[0].former = 0;
        at[0].installed = true; at[0].answered[missed.holder - 1] = GRANTED; missed.holder = 0;
        takeFence() }
      :: else
      fi;
      d_step { a = 0; d = 0 }
    }
  od
}

/* A resource is held by one, and what was acknowledged is not lost while the owner or its journal lives. */
active proctype holders() {
  atomic { witness && believes[0] > 0 && believes[0] == believes[1] -> assert(false) }
}

/* Nothing is delivered past expiry, but for what the relay's clock lost. */
active proctype expiry() {
  atomic { memory[0].holder > 0 && memory[0].fence == at[0].fence && memory[0].left > at[0].left + DRIFT -> assert(false) }
}
