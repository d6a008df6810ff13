import sys, logging, time, collections, traceback
logging.disable(logging.CRITICAL)
sys.path[:0]=['agent','tests']
from model.play import Play
from model.steps import steps, world
from model.eyes import BrokenPromiseError
a,b=int(sys.argv[1]),int(sys.argv[2]); n=int(sys.argv[3]) if len(sys.argv)>3 else 40
ends=collections.Counter(); bad=0; t0=time.time(); total=0; slow=[]
for seed in range(a,b):
    t=time.time()
    p=None; did=[]
    try:
        p=Play(world(seed))
        for s in steps(seed,n):
            did.append(s); p.step(s); total+=1
        p.calm()
    except BaseException as e:
        if isinstance(e,KeyboardInterrupt): raise
        bad+=1
        print(f"--- seed {seed} after {len(did)} steps: {type(e).__name__}: {str(e)[:420]}")
        if not isinstance(e,BrokenPromiseError): traceback.print_exc(limit=-4)
    if p: ends.update(p.ends)
    slow.append((time.time()-t,seed))
print(bad,"of",b-a,"broken;",total,"steps in",round(time.time()-t0,1)); print(dict(ends)); print(sorted(slow)[-4:])
